"""A rival's view, set by hand: the twin of what the world shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_simulator.policies.port import Counts, Rival

P, D = Role.PREFILL, Role.DECODE


@dataclass
class Shown:
    """Everything is as the fields say, until a test changes them."""

    now: float = 0.0
    wanted: Counts = field(default_factory=lambda: {P: 2, D: 2})
    starting: Counts = field(default_factory=dict)
    """Of the wanted, not yet in service."""
    tokens: Mapping[Role, float | None] = field(default_factory=dict)
    rates: Mapping[tuple[str, Role], float | None] = field(default_factory=dict)
    gauges: Mapping[tuple[str, Role], Mapping[str, float]] = field(default_factory=dict)
    windows: list[float] = field(default_factory=list)
    """Windows that were asked for."""

    @property
    def ready(self) -> Counts:
        return {role: count - self.starting.get(role, 0) for role, count in self.wanted.items()}

    @property
    def present(self) -> Counts:
        return dict(self.wanted)

    def offered(self, role: Role, window: float) -> float | None:
        self.windows.append(window)
        return self.tokens.get(role)

    def rate(self, counter: str, role: Role, window: float) -> float | None:
        self.windows.append(window)
        return self.rates.get((counter, role))

    def gauge(self, name: str, role: Role) -> Mapping[str, float]:
        return self.gauges.get((name, role), {})


def turn(rival: Rival, seen: Shown) -> Counts:
    """Let a rival decide, give it what it asks for, and move on to its next decision."""
    seen.wanted = dict(rival.decide(seen))
    seen.now += rival.interval
    return seen.wanted
