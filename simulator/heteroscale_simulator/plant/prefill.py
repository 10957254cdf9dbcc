"""Prefill: one queue for a service's engines, as if the router always chose the least loaded.

Capacity is Σ over open engines of their speed; a second's work counts, on each GPU type, the seconds
of its cache-missed prompt tokens there. Prompts that wait are prefilled together, up to
``max_prefill_tokens``: then each costs its part of the longer batch, and takes as long as all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from heteroscale_simulator.plant.backlog import Arrived, Backlog, Piece
from heteroscale_simulator.plant.cohorts import (
    BORN,
    COMPUTED,
    COUNT,
    DELAYS,
    INPUT,
    MET,
    PREFILLED,
    SPENT,
    WIDTH,
)
from heteroscale_simulator.plant.crew import Cost, Costs, Crew
from heteroscale_simulator.plant.shifts import Shift
from heteroscale_simulator.plant.transfer import Links
from heteroscale_simulator.plant.waits import WINDOW, Waits, share_within, waits
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

_TINY = 1e-9


class Prefill:
    """The prompts of one service, from arrival until their KV is with decode."""

    def __init__(
        self, grid: SpeedGrid, cache_hit: float, links: Links, promise: float | None
    ) -> None:
        self.backlog = Backlog()
        self.shifts: list[Shift] = []
        self.busy = 0.0
        """Busy share of the open engines in the last second."""
        self.together = 1.0
        """Prompts in a batch."""
        self.fetching = 0.0
        """Requests × seconds of fetching their KV, of those started on in the last second: as many
        are being fetched at a time (Little)."""
        self.holding = 0.0
        """The same of prompt tokens, over prefill and fetching."""
        self.price: Cost | None = None
        """Of the arrivals of the last second that had any."""
        self._costs = Costs(grid, cache_hit)
        self._links = links
        self._promise = promise
        self._kinds = len(grid.kv_capacity)
        self._crew: Crew | None = None
        self._shift: Shift | None = None
        self._prices: dict[int, Cost] = {}
        self._random = Waits()
        self._stood = 0.0
        """Mean seconds that the fluid let wait, over the window."""
        self._offered: float | None = None
        """Seconds of work at speed 1 that arrive in a second, over the window."""

    def crew(self, crew: Crew | None) -> None:
        """Let these do what starts from now on; None: nobody."""
        self._crew = crew
        self._prices = {}
        self._shift = None

    def start(self, now: int, arrived: Arrived, first_step: float) -> None:
        """Let a second's arrivals queue, and start what can be started in it.

        ``first_step`` is what decode takes for a first token, in seconds.
        """
        self.backlog.add(arrived)
        self.busy = self.fetching = self.holding = 0.0
        if (crew := self._crew) is None:
            self._links.carry(0.0)
            return
        self._prices = {}
        self._measure(arrived, crew)
        pieces, self.busy = self.backlog.serve(now, lambda row: self._price(row, crew).drain)
        tokens = stood = started = 0.0
        for piece in pieces:
            tokens += piece.share * piece.of.tokens
            started += piece.share * piece.of.total
            stood += piece.share * piece.of.total * (piece.first_wait + piece.last_wait) / 2
            self._put(now, piece, crew, first_step)
        self._links.carry(tokens)
        if started:
            self._stood += (stood / started - self._stood) / WINDOW

    def ends(self, now: int) -> Iterator[tuple[Shift, Floats]]:
        """Yield what has been fetched in second ``now``, by shift; as ``Shift.take``."""
        for shift in self.shifts:
            yield shift, shift.take(now)
        if self.shifts and self.shifts[0].last <= now and self.shifts[0] is not self._shift:
            self.shifts = [s for s in self.shifts if s.last > now or s is self._shift]

    # ---- prices --------------------------------------------------------------------------------

    def _price(self, row: Arrived, crew: Crew) -> Cost:
        price = self._prices.get(row.second)
        if price is None:
            price = self._costs.of(row.sums[COUNT], row.sums[INPUT], crew)
            self._prices[row.second] = price
        return price

    def _measure(self, arrived: Arrived, crew: Crew) -> None:
        """Note the load, what waits at random, and who is batched with whom.

        Prompts done one by one wait as in a G/G/n queue, Wq. Where the first free engine takes all
        that wait, a prompt waits for that only, R = Wq / ((n+1)/2 + ρ): of n engines the first is
        free after 2/(n+1) of what is left to do on each, and what waits is work too. It shares its
        batch with all who came since an engine was free before, 2λR on average.
        """
        total = arrived.total
        price = self._price(arrived, crew) if total > 0 else None
        work = price.drain * crew.total if price else 0.0
        self._offered = work if self._offered is None else self._offered
        self._offered += (work - self._offered) / WINDOW
        if price is None:
            return
        self.price = price
        load = self._offered / crew.total
        weights = price.split * (arrived.sums[COUNT] / total)
        parts = weights * price.part
        part = float(parts.sum())
        spread = float((parts * price.part).sum()) / part**2 - 1 if part else 0.0
        alone = waits(load, crew.engines, part, max(0.0, spread))
        tokens = float(arrived.sums[COUNT] @ price.tokens) / total
        queue = alone.expected
        first_free = queue / ((crew.engines + 1) / 2 + min(load, 1.0))
        company = float((weights * price.company).sum())
        self.together = 1 + (company / part if part else 0.0)
        fits = min(1.0, company / part * tokens / max(self._costs.crowd, _TINY)) if part else 0.0
        # Who finds an engine free has no company; who waits has, and it is part of his wait here.
        chance = self._costs.by_chance
        random = queue - fits * (queue - first_free) + company * chance
        # The ups and downs of whole seconds are in the fluid's wait already.
        self._random = alone.of(max(0.0, random - self._stood))
        standing = max(0.0, self.backlog.requests - total)
        waiting = min(1.0, max(alone.chance, standing))
        self._costs.join(standing * tokens, 2 * total * first_free * tokens, waiting)

    # ---- what is started on --------------------------------------------------------------------

    def _put(self, now: int, piece: Piece, crew: Crew, first_step: float) -> None:
        price, row, random = self._price(piece.of, crew), piece.of, self._random
        waited = (piece.first_wait + piece.last_wait) / 2 + random.expected
        fetch = self._links.seconds(row.sums[INPUT] / np.maximum(row.sums[COUNT], 1e-9))
        sent = price.own + fetch
        count = price.split * (row.sums[COUNT] * piece.share)
        leaving = np.empty((*count.shape, WIDTH))
        leaving[..., :COMPUTED] = (row.sums * piece.share).T
        leaving[..., 1:COMPUTED] *= price.split[..., None]
        leaving[..., COUNT] = count
        leaving[..., COMPUTED] = count * price.tokens
        leaving[..., PREFILLED] = count * (price.own + waited)
        leaving[..., BORN] = count * piece.began
        leaving[..., SPENT] = count * (sent + (waited + first_step))
        if self._promise is None:
            leaving[..., MET:] = count[..., None]
        else:
            slack = (self._promise - first_step - sent)[..., None] - DELAYS * self._promise
            within = share_within(piece.first_wait, piece.last_wait, random, slack)
            leaving[..., MET:] = within * count[..., None]
        self._working(crew, count.shape[1]).put(
            now, leaving, sent + (piece.starts + random.expected), piece.lasts
        )
        self.fetching += float((count @ fetch).sum())
        self.holding += float((leaving[..., INPUT] * sent).sum())

    def _working(self, crew: Crew, classes: int) -> Shift:
        if self._shift is None:
            self._shift = Shift(crew.types, crew.shares.copy(), self._kinds, classes)
            self.shifts.append(self._shift)
        return self._shift
