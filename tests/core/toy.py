"""A toy plant: requests arrive, prefill and decode have capacities, queues grow when they are short.

What matters is that signals come out as engines tell them, cumulative; and it can be choked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.devices import GpuSample, NicSample
from heteroscale_coordinator.core.model import Inventory, RankFact

SERVING = (S.IN_SERVICE, S.WITHDRAWN, S.DRAINING)
PREFILLING = (Role.PREFILL, Role.ATTENTION)
"""Roles that take requests for prefill. Ffn takes none, and tells of none."""


COUNTED = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished"),
    *("ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
)


@dataclass
class Engine:
    """A running engine of the toy plant: its status, and what its metrics say."""

    fact: RankFact
    ready_at: float
    started_at: float = 0.0
    counters: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))
    running: float = 0.0
    waiting: float = 0.0
    lease_until: float | None = None
    busy: float = 0.0
    """Share of its capacity used in the last second, 0 to 1."""
    stuck: bool = False
    """It takes requests and makes no token."""
    hold: float | None = None
    """Waits so long at most, once ready, for the other role."""

    @property
    def hardware(self) -> GpuSample:
        """What its GPU says: prefill's follows its work, decode's loop runs as soon as it has any."""
        decode = self.fact.role not in PREFILLING
        utilisation = float(self.busy > 0) if decode else self.busy
        active = 0.6 * utilisation + 0.3 * self.busy if decode else 0.9 * self.busy
        return GpuSample(
            utilization_percent=round(100 * utilisation), sm_activity_percent=round(100 * active)
        )


@dataclass
class Traffic:
    """What clients send, and how fast one instance of each role is at most."""

    arrivals: float = 0.0
    prompt: float = 1000.0
    output: float = 200.0
    prefill_capacity: float = 6000.0
    decode_capacity: float = 1250.0
    ttft: float = 0.2
    tbt: float = 0.02


@dataclass
class TwinAgent:
    """Answers as a real agent does; may be silent, or deaf to its engines' metrics."""

    agent_id: str
    inventory: Inventory
    engines: dict[str, Engine] = field(default_factory=dict)
    silent: bool = False
    blind: bool = False
    refuses: str = ""
    stillborn: bool = False
    """Engines that it starts are never ready; given up after ``World.startup_timeout``."""
    slow_to_switch: bool = False
    """Roles are switched when a test says so, as engines under load first have to empty."""
    incarnation: int = 1
    sequence: int = 0
    nics: tuple[NicSample, ...] = ()
    sick: dict[int, GpuSample] = field(default_factory=dict)
    """What GPUs say that are not well, by index."""


class Plant:
    """Works off what arrives; ``traffic`` may be changed at any time."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._waiting = 0.0

    def flow(self, engines: Sequence[Engine], dt: float) -> None:
        """Let ``dt`` seconds pass: prefill works off its queue, and what passes it is decoded."""
        traffic = self.traffic
        prefill = _prefilling(engines) or _serving(engines, Role.AGGREGATED)
        decode = _serving(engines, Role.DECODE) or _serving(engines, Role.AGGREGATED)
        self._waiting += traffic.arrivals * dt
        capacity = len(prefill) * traffic.prefill_capacity / traffic.prompt * dt
        passed = min(self._waiting, capacity)
        self._waiting -= passed
        for engine in prefill:
            self._prefilled(engine, passed / len(prefill), self._waiting / len(prefill))
        for engine in decode:
            self._decoded(engine, passed / len(decode), dt)
        for engine in engines:
            if engine not in decode and engine.fact.role is Role.DECODE:
                self._decoded(engine, 0.0, dt)
            elif engine not in prefill and engine.fact.role in PREFILLING:
                engine.running = engine.waiting = engine.busy = 0.0

    def _prefilled(self, engine: Engine, requests: float, waiting: float) -> None:
        traffic, c = self.traffic, engine.counters
        c["prompt_tokens"] += requests * traffic.prompt
        c["computed_prompt_tokens"] += requests * traffic.prompt
        c["requests_finished"] += requests
        c["generation_tokens"] += requests
        rate = traffic.prefill_capacity / traffic.prompt
        c["ttft_sum"] += requests * (traffic.ttft + waiting / rate)
        c["ttft_count"] += requests
        engine.waiting = waiting
        engine.busy = min(1.0, requests / rate)

    def _decoded(self, engine: Engine, requests: float, dt: float) -> None:
        """``running`` is in requests; what exceeds the capacity waits."""
        traffic, c = self.traffic, engine.counters
        if engine.stuck:
            engine.running += requests
            return
        backlog = engine.running + engine.waiting + requests
        tokens = min(backlog * traffic.output, traffic.decode_capacity * dt)
        done = tokens / traffic.output
        engine.busy = min(1.0, tokens / (traffic.decode_capacity * dt))
        c["generation_tokens"] += tokens
        c["requests_finished"] += done
        c["tbt_sum"] += tokens * traffic.tbt
        c["tbt_count"] += tokens
        left = backlog - done
        engine.running, engine.waiting = min(left, 8.0), max(0.0, left - 8.0)
        if left < 1e-6:
            engine.running = engine.waiting = 0.0


def _prefilling(engines: Sequence[Engine]) -> list[Engine]:
    return [engine for role in PREFILLING for engine in _serving(engines, role)]


def _serving(engines: Sequence[Engine], role: Role) -> list[Engine]:
    return [e for e in engines if e.fact.role is role and e.fact.state is S.IN_SERVICE]
