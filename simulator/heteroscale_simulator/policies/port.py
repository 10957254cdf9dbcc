"""What a rival policy sees and says. It says how many of each role; the world finds them GPUs.

Rivals read what Prometheus would have: rates over a window from counters scraped every so often, as
late as scrapes are. They never see the plant itself. (The joint policy does not come through here: the
world drives the coordinator's own ``step`` with events, as agents would.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from heteroscale.words import Role

Counts = Mapping[Role, int]


class Seen(Protocol):
    """What a rival may know at one moment; None is unknown (nobody was scraped in time)."""

    @property
    def now(self) -> float:
        """Seconds since the run's start."""

    @property
    def wanted(self) -> Counts:
        """Counts last asked for."""

    @property
    def ready(self) -> Counts:
        """Counts in service."""

    @property
    def present(self) -> Counts:
        """Counts in service or starting."""

    def offered(self, role: Role, window: float) -> float | None:
        """Return tokens/s offered to a role at the routers over the last ``window`` seconds.

        Prefill: prompt tokens of arriving requests. Decode: arriving requests × mean output tokens
        of the finished ones, or what is generated if that is more.
        """

    def rate(self, counter: str, role: Role, window: float) -> float | None:
        """Return the rise per second of a counter of ``Readings``, summed over the role's engines."""

    def gauge(self, name: str, role: Role) -> Mapping[str, float]:
        """Return the newest values of a gauge of ``Readings`` by instance in service."""


class Rival(Protocol):
    """A policy of another house."""

    @property
    def name(self) -> str:
        """What a person types after ``--policy``."""

    @property
    def interval(self) -> float:
        """Seconds between decisions."""

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now, at least one of each role; bounds are applied by the world."""
