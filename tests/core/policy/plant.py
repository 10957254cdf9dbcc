"""A tiny plant that closes the loop around ``decide``: fluid queues, start-up times, soft scale-in.

Requests arrive at a rate; prefill works off prompt tokens, decode works off output tokens, each up
to its capacity; what does not fit waits. Latency grows with the queue. Verdicts are carried out as
the turn would: launches start after a delay, withdrawals land one tick later.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from heteroscale.words import InstanceState, Role, ScrapeQuality, WithdrawReason
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import (
    Action,
    EngineSample,
    Instance,
    LatencySample,
    Verdict,
)
from heteroscale_coordinator.core.policy import Member, ServiceView, decide
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.track import Track
from tests.core.policy.build import NOW, D, P, instance_of

TICK = 5.0
PROMPT, OUTPUT = 500.0, 200.0
SERVING = (InstanceState.IN_SERVICE, InstanceState.WITHDRAWN)
NAMES = ("tokens", "prompt", "finished", "ttft", "tbt")


@dataclass
class Engine:
    """One engine: its life and its counters."""

    instance: Instance
    ready_at: float
    track: Track = field(default_factory=lambda: Track(TICK))
    total: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))


@dataclass
class Plant:
    """The loop. ``rate(t)`` is requests/s at t seconds after the start."""

    spec: ServiceSpec
    rate: Callable[[float], float]
    capacity: dict[Role, float] = field(default_factory=lambda: {P: 6000.0, D: 1250.0})
    noise: float = 0.0
    startup: float = 60.0
    seed: int = 1
    fails: bool = False
    """Launches never get ready."""
    deaf: float = 0.0
    """Share of the engines whose reports are lost, each tick anew."""
    ttft: float = 0.1
    """Mean TTFT without a queue."""
    engines: list[Engine] = field(default_factory=list)
    memory: PolicyMemory = field(default_factory=PolicyMemory)
    queue: dict[Role, float] = field(default_factory=lambda: {P: 0.0, D: 0.0})
    now: float = NOW
    history: list[tuple[float, Verdict]] = field(default_factory=list)
    counts: list[dict[Role, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - a repeatable plant, no secret

    def begin(self, prefill: int, decode: int) -> None:
        """Put engines into service at once."""
        for role, n in ((P, prefill), (D, decode)):
            self.engines += [Engine(instance_of(role), self.now) for _ in range(n)]

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(int(seconds / TICK)):
            self._pass()
            self.now += TICK
            self._report()
            view = self.view()
            verdict = decide(view)
            self.history.append((self.now, verdict))
            self.counts.append(view.present())
            self._carry_out(verdict)

    def view(self) -> ServiceView:
        """Return what the policy sees now."""
        members = tuple(Member(e.instance, e.track) for e in self.engines)
        return ServiceView("chat", self.spec, members, self.memory, self.now)

    def actions(self, *kinds: Action) -> list[tuple[float, Verdict]]:
        """Return (seconds since the start, verdict) of these kinds."""
        return [(at - NOW, v) for at, v in self.history if v.action in kinds]

    def _pass(self) -> None:
        rate = self.rate(self.now - NOW) * (1 + self._chance.uniform(-self.noise, self.noise))
        for engine in self.engines:
            if engine.instance.state is InstanceState.LAUNCHING and self.now >= engine.ready_at:
                self._set(engine, InstanceState.IN_SERVICE)
        prefilled = self._work(P, rate * TICK, PROMPT)
        self._work(D, prefilled, OUTPUT)

    def _work(self, role: Role, arriving: float, tokens: float) -> float:
        """Work off what fits and return the requests done."""
        group = self._in_service(role)
        room = len(group) * self.capacity[role] * TICK / tokens
        asked = self.queue[role] + arriving
        done = min(asked, room)
        self.queue[role] = asked - done
        wait = self.queue[role] * tokens / max(1.0, len(group) * self.capacity[role])
        for engine in group:
            share = done / len(group)
            engine.total["finished"] += share
            engine.total["prompt"] += share * PROMPT
            engine.total["tokens"] += share * (OUTPUT if role is D else 1.0)
            engine.total["ttft"] += share * (self.ttft + wait)
            engine.total["tbt"] += share * OUTPUT * 0.02
        return done

    def _in_service(self, role: Role) -> list[Engine]:
        return [
            e
            for e in self.engines
            if e.instance.role is role and e.instance.state is InstanceState.IN_SERVICE
        ]

    def _report(self) -> None:
        for engine in self.engines:
            if engine.instance.state in SERVING and self._chance.random() >= self.deaf:
                engine.track.add(self._sample(engine))

    def _sample(self, engine: Engine) -> EngineSample:
        total, role = engine.total, engine.instance.role
        serves = engine.instance.state is InstanceState.IN_SERVICE
        waiting = self.queue[role] / max(1, len(self._in_service(role))) if serves else 0.0
        running = self.rate(self.now - NOW) * 4 / max(1, len(self._in_service(role)))
        return EngineSample(
            engine.instance.instance_id,
            ScrapeQuality.OK,
            self.now,
            generation_tokens=total["tokens"],
            prompt_tokens=total["prompt"],
            computed_prompt_tokens=total["prompt"],
            requests_finished=total["finished"],
            requests_aborted=0.0,
            running=running if serves and role is D else 0.0,
            waiting=waiting,
            kv_usage=0.2,
            ttft=LatencySample(total["ttft"], total["finished"]),
            tbt=LatencySample(total["tbt"], total["finished"] * OUTPUT),
        )

    def _carry_out(self, verdict: Verdict) -> None:
        for role, n in verdict.delta.items():
            if verdict.action in (Action.SCALE_OUT, Action.REPAIR):
                self._launch(role, n)
            elif verdict.action is Action.SCALE_IN:
                self._move(role, n, InstanceState.IN_SERVICE, InstanceState.WITHDRAWN)
            elif verdict.action is Action.REINSTATE:
                self._move(role, n, InstanceState.WITHDRAWN, InstanceState.IN_SERVICE)
            elif verdict.action is Action.FINISH_SCALE_IN:
                self._move(role, n, InstanceState.WITHDRAWN, InstanceState.TERMINATED)
        self.memory = verdict.done

    def _launch(self, role: Role, n: int) -> None:
        for _ in range(n):
            instance = instance_of(role, InstanceState.LAUNCHING, changed_at=self.now)
            ready = float("inf") if self.fails else self.now + self.startup
            self.engines.append(Engine(instance, ready))

    def _move(self, role: Role, n: int, old: InstanceState, new: InstanceState) -> None:
        found = [e for e in self.engines if (e.instance.role, e.instance.state) == (role, old)]
        for engine in found[:n]:
            self._set(engine, new)

    def _set(self, engine: Engine, state: InstanceState) -> None:
        reason = WithdrawReason.SOFT_SCALE_IN if state is InstanceState.WITHDRAWN else None
        engine.instance = replace(engine.instance, state=state, reason=reason, changed_at=self.now)
