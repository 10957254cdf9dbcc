"""What a report is made from: every policy's run over the same traffic, as plain values.

Nothing here is computed: the world and the measures made it, the writers of this room only show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.plant.port import Outcomes, Slo
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.result import Decision, Usage


@dataclass(frozen=True)
class ServiceRun:
    """One service under one policy."""

    service: str
    slo: Slo
    load: Load
    outcomes: Outcomes
    intervals: Sequence[Interval]
    decisions: Sequence[Decision]
    figures: RunFigures
    limits: Limits | None = None
    """What it is held against."""
    usage: Mapping[Role, Usage] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyRun:
    """Every service under one policy; ``figures`` are over all of them."""

    figures: RunFigures
    services: Sequence[ServiceRun]

    @property
    def policy(self) -> str:
        """What a person typed after ``--policy``."""
        return self.figures.policy


@dataclass(frozen=True)
class Study:
    """A comparison of policies on the same services, fleet and traffic, in the order asked."""

    version: str
    seed: int
    command: Sequence[str]
    """The command line, for a person who wants the same again."""
    inputs: Mapping[str, object]
    """Names of files and options, as JSON can hold them."""
    runs: Sequence[PolicyRun]
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of a GPU-hour, by GPU type."""
    targets: Mapping[str, Mapping[Role, float]] = field(default_factory=dict)
    """Tokens/s that an instance of a service carries at most within its SLO, as rivals are told."""
    notes: Sequence[str] = ()
    """What a reader should know: estimates used, speeds carried on beyond their tables."""
