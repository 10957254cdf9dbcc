"""The loop: arrivals, ends of prefill batches, ends of transfers, ends of decode steps, in order.

Prefill is one queue that free engines take from; a request goes to the decode engine with the lowest
share of its batch (it is chosen when its prompt is through), and queues where none has room.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from heteroscale_simulator.events.deployment import Decode, Deployment, Prefill
from heteroscale_simulator.events.requests import Answer, Request

Happening = Callable[[], None]


def play(
    requests: Iterable[Request], deployment: Deployment, until: float | None = None
) -> list[Answer]:
    """Return what became of each request, in order of arrival.

    Args:
        requests: in order of arrival.
        deployment: fresh engines; they are used up by this.
        until: stop then, in seconds; None goes on until everything that can end has ended.

    """
    return _Play(requests, deployment).run(until)


class _Play:
    def __init__(self, requests: Iterable[Request], deployment: Deployment) -> None:
        self._deployment = deployment
        self._answers: list[Answer] = []
        self._agenda: list[tuple[float, int, Happening]] = []
        self._order = count()
        self._now = 0.0
        self._prompts: deque[Answer] = deque()
        self._free = list(deployment.prefill)
        self._moving: dict[int, int] = {}
        """Requests on their way, by place of the decode engine."""
        self._decodes: deque[Answer] = deque()
        self._coming = iter(requests)
        self._expect()

    def run(self, until: float | None) -> list[Answer]:
        while self._agenda:
            at, _, happens = heapq.heappop(self._agenda)
            if until is not None and at > until:
                break
            self._now = at
            happens()
        return self._answers

    def _at(self, when: float, happens: Happening) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), happens))

    def _expect(self) -> None:
        if (request := next(self._coming, None)) is not None:
            self._at(request.at, partial(self._arrives, request))

    def _arrives(self, request: Request) -> None:
        answer = Answer(request)
        self._answers.append(answer)
        self._prompts.append(answer)
        self._start_prefills()
        self._expect()

    # ---- prefill -------------------------------------------------------------------------------

    def _start_prefills(self) -> None:
        while self._free and self._prompts:
            engine = self._free.pop(0)
            self._at(self._now + engine.take(self._prompts), partial(self._prefilled, engine))

    def _prefilled(self, engine: Prefill) -> None:
        for answer in engine.batch:
            answer.prefilled_at = self._now
            self._send(engine, answer)
        engine.batch.clear()
        self._free.append(engine)
        self._start_prefills()

    # ---- transfer ------------------------------------------------------------------------------

    def _send(self, engine: Prefill, answer: Answer) -> None:
        if not self._deployment.decode:
            return
        to = min(self._deployment.decode, key=self._load_of)
        self._moving[id(to)] = self._moving.get(id(to), 0) + 1
        arrives = self._deployment.transfer_ends(engine, to, answer, self._now)
        self._at(arrives, partial(self._received, to, answer))

    def _load_of(self, engine: Decode) -> float:
        held = engine.batch + self._moving.get(id(engine), 0)
        return held / engine.gpu.max_batch

    def _received(self, to: Decode, answer: Answer) -> None:
        self._moving[id(to)] -= 1
        if self._decodes or not to.fits(answer):
            self._decodes.append(answer)
            self._admit_waiting()
        else:
            self._admit(to, answer)

    # ---- decode --------------------------------------------------------------------------------

    def _admit_waiting(self) -> None:
        while self._decodes:
            able = [one for one in self._deployment.decode if one.fits(self._decodes[0])]
            if not able:
                return
            self._admit(min(able, key=self._load_of), self._decodes.popleft())

    def _admit(self, engine: Decode, answer: Answer) -> None:
        engine.admit(answer, self._now)
        if not engine.stepping:
            self._step(engine)

    def _step(self, engine: Decode) -> None:
        engine.stepping = True
        ends = self._now + engine.step_seconds()
        self._at(ends, partial(self._stepped, engine))

    def _stepped(self, engine: Decode) -> None:
        engine.stepping = False
        engine.stepped(self._now)
        self._admit_waiting()
        if engine.batch and not engine.stepping:
            self._step(engine)
