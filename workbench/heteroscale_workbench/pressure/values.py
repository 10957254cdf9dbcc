"""What a pressure test tries and what it finds: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol


class Counts(NamedTuple):
    """Instances of each role while loads are tried."""

    prefill: int
    decode: int

    def __str__(self) -> str:
        """Return it as people write it: 7P9D."""
        return f"{self.prefill}P{self.decode}D"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one load on one deployment came to. Rates are means over the measured seconds."""

    counts: Counts
    rate: float
    """Requests/s offered."""
    attainment: float
    """Share of the arrived requests that were met (docs/simulator.md, measures); 0 to 1."""
    prefill_tps: float
    """Prompt tokens/s that missed the cache, all prefill instances."""
    decode_tps: float
    """Generated tokens/s, all decode instances."""
    ttft: float | None
    """Mean seconds; None when there was none."""
    tbt: float | None
    util_prefill: float | None = None
    """Mean GPU utilisation; None where the deployment does not tell."""
    util_decode: float | None = None
    label: str = ""
    """Of the bench; loads of differently made deployments are different trials."""


@dataclass(frozen=True, slots=True)
class Goal:
    """When a load counts as held, and how finely the largest one is searched."""

    attainment: float = 0.99
    """Share of requests to be met; see ``below``."""
    tolerance: float = 0.03
    """The largest load held and the smallest not held differ by at most this share."""
    max_trials: int = 24
    """For one deployment; more means that nothing makes sense."""

    def below(self, ceiling: float) -> Goal:
        """Return the goal where only ``ceiling`` of all requests can be met at all.

        Who cannot be met takes of what may be missed; load may take the rest, but half of it at
        least: a search for less finds nothing but chance.
        """
        least = ceiling - (1 - self.attainment) / 2
        return replace(self, attainment=min(self.attainment, least))


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest load that a deployment held; ``trial`` is None when not even the smallest."""

    counts: Counts
    trial: Trial | None
    trials: int


class Bench(Protocol):
    """A deployment under test, real or simulated."""

    @property
    def label(self) -> str:
        """What distinguishes it from others of one test; empty for the only one."""

    def first_rate(self, counts: Counts) -> float:
        """Return the requests/s at which a search may begin."""

    def light_rate(self, counts: Counts) -> float:
        """Return requests/s at which next to nobody waits for another."""

    async def stand(self, counts: Counts) -> None:
        """Have exactly these instances in service, and nothing in flight."""

    async def load(self, counts: Counts, rate: float) -> Trial:
        """Offer ``rate`` requests/s until what is measured is steady, and measure it."""


class PressureError(Exception):
    """The test cannot go on; the text says why and what to do."""
