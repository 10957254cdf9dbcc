"""The queue before prefill: seconds of arrivals, served in order, each piece with its wait.

Inside a second arrivals are even. So the work that stands changes along a straight line, and so does
the wait of those served: a piece knows its first and its last. Waits are taken when the work starts,
not foretold when it arrives: engines that open meanwhile make them shorter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from heteroscale_simulator.traffic.load import Floats


@dataclass(slots=True)
class Arrived:
    """What one second brought."""

    second: int
    sums: Floats
    """COUNT, INPUT and OUTPUT by class; shape (3, classes)."""
    total: float
    """Requests."""
    tokens: float
    """Prompt tokens."""
    served: float = 0.0
    """Share that has been served."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A share of what a second brought, and when it is started on."""

    of: Arrived
    share: float
    starts: float
    """Time when the first of it is started on; the last is ``lasts`` seconds later."""
    lasts: float
    first_wait: float
    last_wait: float
    began: float
    """Mean time of its arrival."""


Drain = Callable[[Arrived], float]
"""Seconds in which all open engines together do the whole of what a second brought."""


class Backlog:
    """First come, first served."""

    def __init__(self) -> None:
        self._rows: deque[Arrived] = deque()
        self.requests = 0.0
        """Requests that stand."""

    def __iter__(self) -> Iterator[Arrived]:
        return iter(self._rows)

    def add(self, row: Arrived) -> None:
        """Queue what a second brought."""
        if row.total > 0:
            self._rows.append(row)
            self.requests += row.total

    def serve(self, now: int, drain: Drain) -> tuple[list[Piece], float]:
        """Work through second ``now``; return what was started on, and the busy share of the second."""
        pieces: list[Piece] = []
        clock = float(now)
        end = now + 1.0
        while self._rows and clock < end:
            row = self._rows[0]
            whole = drain(row)
            if row.second == now:
                clock = self._fresh(row, clock, whole, pieces)
                break
            left = 1.0 - row.served
            if whole * left <= end - clock:
                self._serve(row, left, (clock, whole * left), pieces)
                clock += whole * left
            else:
                self._serve(row, (end - clock) / whole, (clock, end - clock), pieces)
                clock = end
        busy = min(clock, end) - now
        if not self._rows:
            self.requests = 0.0
        return pieces, busy

    def _fresh(self, row: Arrived, clock: float, whole: float, pieces: list[Piece]) -> float:
        """Serve what arrives in this second behind what stands; return when work ends."""
        stands = clock - row.second
        if stands + whole > 1.0:
            share = (1.0 - stands) / whole
            self._serve(row, share, (clock, 1.0 - stands), pieces)
            return row.second + 1.0
        # The queue shrinks along a line, is empty at ``until``, and stays so.
        until = stands / (1.0 - whole) if stands else 0.0
        if until:
            self._serve(row, until, (clock, until - stands), pieces)
        self._serve(row, 1.0 - until, (row.second + until, 1.0 - until), pieces)
        return clock + whole

    def _serve(
        self, row: Arrived, share: float, when: tuple[float, float], pieces: list[Piece]
    ) -> None:
        starts, lasts = when
        if share <= 0:
            return
        if row.served + share > 1.0 - 1e-9:
            share = 1.0 - row.served
        begin, end = row.second + row.served, row.second + row.served + share
        waits = max(0.0, starts - begin), max(0.0, starts + lasts - end)
        pieces.append(Piece(row, share, starts, lasts, *waits, (begin + end) / 2))
        row.served += share
        self.requests -= share * row.total
        if row.served >= 1.0 - 1e-9:
            self._rows.popleft()

    def cut(self, share: float) -> Iterator[tuple[int, float]]:
        """Take ``share`` of all that stands out of it; yield seconds and requests."""
        for row in self._rows:
            gone = share * (1.0 - row.served)
            yield row.second, gone * row.total
            # What was served is a larger part of a smaller row; it is not served again.
            keep = 1.0 - gone
            if keep > 0:
                row.served /= keep
            row.sums = row.sums * keep
            row.total *= keep
            row.tokens *= keep
        if share >= 1.0:
            self._rows.clear()
        self.requests *= 1.0 - share
