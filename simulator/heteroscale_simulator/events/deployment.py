"""The engines of one service, standing still: what ``play`` runs requests through."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from heteroscale.words import Role
from heteroscale_simulator.events.requests import Answer
from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.profiles import Distance, EngineProfile, GpuProfile

_LEVELS: tuple[Distance, ...] = ("s0", "s1", "s2")


@dataclass
class Prefill:
    """One prefill engine: a batch at a time; its NIC sends one request's KV after another."""

    seat: Seat
    gpu: GpuProfile
    batch: list[Answer] = field(default_factory=list)
    nic_free_at: float = 0.0

    def take(self, queue: deque[Answer]) -> float:
        """Start on what waits first, as many as fit a batch, and return the seconds it takes."""
        tokens = 0
        while queue:
            prompt = queue[0].request.prompt
            if self.batch and tokens + prompt > self.gpu.max_prefill_tokens:
                break
            tokens += prompt
            self.batch.append(queue.popleft())
        return self.gpu.prefill_seconds(tokens)


@dataclass
class Decode:
    """One decode engine: every step gives each request of its batch a token."""

    seat: Seat
    gpu: GpuProfile
    steps: int = 0
    """Steps ever done: the clock that its requests end by."""
    kv_tokens: int = 0
    stepping: bool = False
    nic_free_at: float = 0.0
    fresh: list[tuple[int, Answer]] = field(default_factory=list)
    """Admitted, and still to get their first token; with the number of the step that gives it."""
    _ends: list[tuple[int, int, Answer]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    @property
    def batch(self) -> int:
        """Requests that decode together."""
        return len(self._ends)

    def fits(self, answer: Answer) -> bool:
        """Return whether one more may join."""
        request = answer.request
        room = self.kv_tokens + request.prompt + request.output <= self.gpu.kv_capacity_tokens
        return self.batch < self.gpu.max_batch and room

    def admit(self, answer: Answer, now: float) -> None:
        """Take a request in; its first token comes with the end of a step that begins from now on."""
        answer.admitted_at = now
        self.kv_tokens += answer.request.prompt
        last = self.steps + self.stepping
        self.fresh.append((last + 1, answer))
        heapq.heappush(self._ends, (last + answer.request.output, next(self._order), answer))

    def step_seconds(self) -> float:
        """Return what the next step takes."""
        return self.gpu.step_seconds(self.batch, self.kv_tokens / self.batch)

    def stepped(self, now: float) -> None:
        """Account for a step that ends now."""
        self.steps += 1
        later = [(step, answer) for step, answer in self.fresh if step > self.steps]
        for step, answer in self.fresh:
            if step <= self.steps:
                answer.first_token_at = now
        self.kv_tokens += self.batch - len(later)
        self.fresh = later
        while self._ends and self._ends[0][0] <= self.steps:
            _, _, answer = heapq.heappop(self._ends)
            answer.finished_at = now
            self.kv_tokens -= answer.request.prompt + answer.request.output


class Deployment:
    """Prefill and decode engines that do not change, and the ways between them."""

    def __init__(self, profiles: Mapping[Role, EngineProfile], seats: Sequence[Seat]) -> None:
        self.profile = profiles[Role.PREFILL]
        gpu_of = {seat.instance_id: profiles[seat.role].gpu(seat.gpu_type) for seat in seats}
        self.prefill = [Prefill(s, gpu_of[s.instance_id]) for s in seats if s.role is Role.PREFILL]
        self.decode = [Decode(s, gpu_of[s.instance_id]) for s in seats if s.role is Role.DECODE]

    def transfer_ends(self, sender: Prefill, to: Decode, answer: Answer, now: float) -> float:
        """Return when a prompt's KV has arrived.

        The sender's NIC is busy until it has left, the receiver's until it has come.
        """
        link = self.profile.transfer.link(distance(sender.seat, to.seat))
        size = answer.request.prompt * self.profile.kv_bytes_per_token
        wire = size / (link.gigabytes_per_second * 1e9)
        begins = max(now, sender.nic_free_at)
        sender.nic_free_at = begins + wire
        to.nic_free_at = max(begins, to.nic_free_at) + wire
        return to.nic_free_at + link.latency_ms / 1000


def distance(one: Seat, other: Seat) -> Distance:
    """Return the nearest level at which two seats share a domain."""
    for level in _LEVELS:
        name = one.domains.get(level)
        if name is not None and name == other.domains.get(level):
            return level
    return "cluster"
