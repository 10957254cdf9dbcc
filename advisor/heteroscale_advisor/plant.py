"""The service's own engines, as their history shows them: a plant for the simulator's world.

Each role is a queue in front of its open instances. They share work evenly, do no more than an instance
was ever seen to do, and take as long as was measured at such a load; what exceeds that waits. In
slots that nobody saw, engines tell nothing, so the policy decides as it does when it is blind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from heteroscale.words import Role
from heteroscale_advisor.model import RoleModel, latencies_of
from heteroscale_advisor.presence import Bools, Floats
from heteroscale_simulator.plant.port import Outcomes, Readings, Seat

_READ = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished"),
    *("ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
)
_UNTOLD = ("transferring", "gpu_util", "sm_activity", "rdma_share")
_COUNT = len(_READ)
_NOTHING = 0.01
"""Requests: with less left an engine holds none."""
_GEN, _PROMPT, _COMPUTED, _DONE, _TTFT, _TTFT_N, _TBT, _TBT_N = range(_COUNT)


@dataclass(slots=True)
class _Engine:
    seat: Seat
    open: bool = False
    counters: list[float] = field(default_factory=lambda: [0.0] * _COUNT)
    left: float = 0.0
    """Requests that it still works on, once it is closed."""


@dataclass(slots=True)
class _Queue:
    """A role: what waits, and how it went in the last second."""

    model: RoleModel
    waiting: float = 0.0
    """Tokens of work."""
    load: float = 0.0
    """Tokens/s of one instance."""
    done: float = 0.0
    """Tokens in the last second, of all instances."""
    wait: float = 0.0
    """Seconds until what arrives now is begun."""
    running: float = 0.0
    """Requests of one instance."""

    def second(self, work: float, instances: int) -> None:
        """Let a second pass in which so much work arrives."""
        capacity = instances * self.model.highest
        self.done = min(self.waiting + work, capacity)
        self.waiting = max(0.0, self.waiting + work - self.done)
        self.load = self.done / instances if instances else 0.0
        self.wait = self.waiting / capacity if capacity else (3600.0 if self.waiting else 0.0)


class SeenPlant:
    """``heteroscale_simulator.plant.port.Plant`` of engines that were watched."""

    def __init__(
        self, models: Mapping[Role, RoleModel], known: Bools, prompt_per_computed: float = 1.0
    ) -> None:
        """``known``: by second, whether anybody saw the service; its length is that of the outcomes."""
        self._queues = {role: _Queue(model) for role, model in models.items()}
        self._latencies = latencies_of(models)
        self._known = known
        self._prompts = prompt_per_computed
        self._engines: dict[str, _Engine] = {}
        self._now = 0
        names = (
            "arrived",
            "met",
            "ttft_met",
            "tbt_met",
            "failed",
            "ttft",
            "tbt",
            "input",
            "output",
        )
        self._out = {name: np.zeros(len(known)) for name in names}

    # ---- engines -------------------------------------------------------------------------------

    def join(self, seat: Seat) -> None:
        """Add an engine that is up but takes no traffic."""
        self._engines[seat.instance_id] = _Engine(seat)

    def open(self, instance_id: str) -> None:
        """Let new requests reach it."""
        self._engines[instance_id].open = True

    def close(self, instance_id: str) -> None:
        """Send it no new requests."""
        engine = self._engines[instance_id]
        if engine.open:
            engine.open, engine.left = False, self._queues[engine.seat.role].running

    def remove(self, instance_id: str) -> None:
        """End it; requests that it holds fail."""
        engine = self._engines.pop(instance_id)
        held = self._queues[engine.seat.role].running if engine.open else engine.left
        self._out["failed"][min(self._now, len(self._known) - 1)] += held

    def held(self, instance_id: str) -> float:
        """Return the requests that it still works on."""
        engine = self._engines[instance_id]
        return self._queues[engine.seat.role].running if engine.open else engine.left

    # ---- time ----------------------------------------------------------------------------------

    def advance(self, requests: Floats, input_tokens: Floats, output_tokens: Floats) -> None:
        """Move on one second, in which these arrive."""
        came, prompt, output = (float(a.sum()) for a in (requests, input_tokens, output_tokens))
        for role, queue in self._queues.items():
            queue.second(prompt if role is Role.PREFILL else output, len(self._opened(role)))
        length = output / came if came else 1.0
        ttft, tbt = self._latency("ttft"), self._latency("tbt", max(length, 1.0))
        self._note(came, prompt, output, ttft, tbt)
        if came:
            self._run(length, prompt / came, ttft, tbt)
        self._leave()
        self._now += 1

    def readings(self) -> Readings:
        """Return what every engine's metrics say now; all unknown while nobody looks."""
        engines = list(self._engines.values())
        rows = np.array([one.counters for one in engines]).reshape(len(engines), _COUNT)
        columns = dict(zip(_READ, rows.T, strict=True))
        columns["requests_aborted"] = np.zeros(len(engines))
        columns["running"] = np.array([self.held(one.seat.instance_id) for one in engines])
        columns["waiting"] = np.array([self._waiting(one) for one in engines])
        columns["kv_usage"] = np.array([self._usage(one) for one in engines])
        columns |= {name: np.full(len(engines), np.nan) for name in _UNTOLD}
        if not self._known[min(self._now, len(self._known)) - 1]:
            columns = {name: np.full(len(engines), np.nan) for name in columns}
        return Readings(ids=list(self._engines), **columns)

    def outcomes(self) -> Outcomes:
        """Return what became of all requests so far, by second of arrival."""
        out = self._out
        return Outcomes(
            arrived=out["arrived"],
            finished=out["arrived"],
            failed=out["failed"],
            ttft_met=out["ttft_met"],
            tbt_met=out["tbt_met"],
            met=out["met"],
            ttft_sum=out["ttft"],
            first_tokens=out["arrived"],
            tbt_sum=out["tbt"],
            input_tokens=out["input"],
            output_tokens=out["output"],
        )

    # ---- inside --------------------------------------------------------------------------------

    def _opened(self, role: Role) -> list[_Engine]:
        return [e for e in self._engines.values() if e.open and e.seat.role is role]

    def _latency(self, name: str, tokens: float = 1.0) -> float | None:
        """Return a mean latency now, with its part of the wait: one of ``tokens``."""
        role, latency = self._latencies[name]
        queue = self._queues[role]
        if (seconds := latency.at(queue.load)) is None:
            return None
        # Where both come about at one role, who waits there waits for the first token alone.
        waits = name == "ttft" or role is Role.DECODE
        return seconds + waits * queue.wait / tokens

    def _note(
        self, came: float, prompt: float, output: float, ttft: float | None, tbt: float | None
    ) -> None:
        if self._now >= len(self._known):
            return
        seen = {"ttft": ttft, "tbt": tbt}
        kept = {
            name: latency.keeps(seen[name]) and self._served(role)
            for name, (role, latency) in self._latencies.items()
        }
        told = {
            "arrived": came,
            "input": prompt,
            "output": output,
            "ttft": came * (ttft or 0.0),
            "tbt": came * (tbt or 0.0),
            "ttft_met": came * kept["ttft"],
            "tbt_met": came * kept["tbt"],
            "met": came * (kept["ttft"] and kept["tbt"]),
        }
        for name, value in told.items():
            self._out[name][self._now] = value

    def _served(self, role: Role) -> bool:
        return bool(self._opened(role))

    def _run(self, length: float, prompt: float, ttft: float | None, tbt: float | None) -> None:
        """Let the open engines of both roles count what they did, alike."""
        first, rest = ttft or 0.0, length * (tbt or 0.0)
        for role, queue in self._queues.items():
            stays = first * (role is not Role.DECODE) + rest * (role is not Role.PREFILL)
            size = prompt if role is Role.PREFILL else length
            engines = self._opened(role)
            done = queue.done / max(size, 1e-9) / max(1, len(engines))
            queue.running = done * max(0.0, stays - queue.wait * (role is not Role.DECODE))
            for engine in engines:
                told = engine.counters
                told[_DONE] += done
                told[_PROMPT] += done * prompt * self._prompts
                told[_GEN] += done * (1.0 if role is Role.PREFILL else length)
                if role is not Role.DECODE:
                    told[_COMPUTED] += done * prompt
                    told[_TTFT] += done * first
                    told[_TTFT_N] += done
                if role is not Role.PREFILL:
                    told[_TBT] += done * rest
                    told[_TBT_N] += done * length

    def _leave(self) -> None:
        """Let closed engines finish what they hold: a tenth a second, and the rest of a request."""
        for engine in self._engines.values():
            if not engine.open and engine.left:
                engine.left = 0.0 if engine.left < _NOTHING else engine.left * 0.9

    def _waiting(self, engine: _Engine) -> float:
        role = engine.seat.role
        queue = self._queues[role]
        if not engine.open or not queue.waiting:
            return 0.0
        done = sum(one.counters[_DONE] for one in self._engines.values() if one.seat.role is role)
        own = _COMPUTED if role is Role.PREFILL else _GEN
        work = sum(one.counters[own] for one in self._engines.values() if one.seat.role is role)
        size = work / done if done else 1.0
        return queue.waiting / max(size, 1.0) / max(1, len(self._opened(role)))

    def _usage(self, engine: _Engine) -> float:
        each = self._queues[engine.seat.role].model.kv_per_request
        if each is None:
            return np.nan
        return min(1.0, each * self.held(engine.seat.instance_id))
