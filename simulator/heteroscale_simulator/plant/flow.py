"""The plant that runs fleets: cohorts by second and class, all engines at once.

A second goes by in this order: decode's clocks move on; arrivals queue for prefill, and what starts is
entered in the calendar of when its KV will be with decode; what ends now goes there, and is admitted.
Every step is arithmetic on arrays, so that its cost is by engines and classes, never by requests.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.plant.backlog import Arrived
from heteroscale_simulator.plant.cohorts import COUNT, WIDTH
from heteroscale_simulator.plant.decode import Decode
from heteroscale_simulator.plant.meters import Meters
from heteroscale_simulator.plant.port import Outcomes, PlantSettings, Readings, Seat
from heteroscale_simulator.plant.prefill import Prefill
from heteroscale_simulator.plant.shifts import arrivals_of
from heteroscale_simulator.plant.slots import Slots
from heteroscale_simulator.plant.tally import ARRIVED, FAILED, INPUT_TOKENS, Tally
from heteroscale_simulator.plant.transfer import Links
from heteroscale_simulator.profiles import EngineProfile
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

_BUCKET = 0.25
"""Seconds of tokens in a bucket of decode's ring, at the fastest engine's fastest step."""
_NOBODY = 1e-6
"""What is left of a request by rounding."""
_SEED = 401
"""Offset of the plant's own random numbers."""
_ROLES = (Role.PREFILL, Role.DECODE)


class FlowPlant:
    """The engines of one service; ``port.Plant`` says what its methods do."""

    def __init__(
        self,
        profile: EngineProfile | Mapping[Role, EngineProfile],
        settings: PlantSettings,
        seconds: int,
    ) -> None:
        """``seconds``: length of the outcomes; later arrivals count as the last second's.

        Raises:
            ValueError: no seconds, or a role without a profile.

        """
        profiles = {role: _profile(profile, role) for role in _ROLES}
        self._kinds = {role: list(profiles[role].gpus) for role in _ROLES}
        grids = {role: SpeedGrid(list(profiles[role].gpus.values())) for role in _ROLES}
        source = profiles[Role.PREFILL]
        self._settings = settings
        self._now = 0
        self._tally = Tally(seconds)
        self._links = Links(source.transfer, source.kv_bytes_per_token)
        self._prefill = Prefill(
            grids[Role.PREFILL], settings.workload.cache_hit, self._links, settings.slo.ttft
        )
        self._slots = Slots(grids[Role.PREFILL].kv_capacity)
        self._decode = Decode(
            grids[Role.DECODE], settings.slo, self._tally, _bucket(grids[Role.DECODE])
        )
        self._grids = grids
        self._meters = Meters(grids[Role.PREFILL], grids[Role.DECODE])
        self._random = np.random.default_rng(settings.seed + _SEED)
        self._seats: dict[str, Seat] = {}
        self._places: dict[str, int] = {}
        """Slot of a prefill engine, place of a decode engine."""
        self._order: list[str] = []
        """Decode engines by place."""
        self._paces: dict[str, float] = {}
        self._warm_at: dict[str, float] = {}
        self._changed = False
        self._holding: Floats | None = None
        """Requests that prefill slots hold now; None until somebody asks. All who drain ask."""

    # ---- engines -------------------------------------------------------------------------------

    def join(self, seat: Seat) -> None:
        """Add an engine that is up but takes no traffic."""
        if seat.role not in _ROLES:
            raise ValueError(f"{seat.instance_id}: the plant has no engines of role {seat.role}")
        if seat.instance_id in self._seats:
            raise ValueError(f"{seat.instance_id} has joined before")
        kinds = self._kinds[seat.role]
        if seat.gpu_type not in kinds:
            known = ", ".join(sorted(kinds))
            raise ValueError(f"no speed of {seat.gpu_type} for {seat.role}; there is {known}")
        name, kind, wear = seat.instance_id, kinds.index(seat.gpu_type), self._settings.wear
        pace = max(0.1, 1.0 + wear.jitter * float(self._random.standard_normal()))
        self._seats[name], self._paces[name] = seat, pace
        if wear.warm_up > 0:
            self._warm_at[name] = self._now + wear.warm_up
            pace *= wear.warm_up_speed
        if seat.role is Role.PREFILL:
            self._places[name] = self._slots.take(kind, pace)
            self._holding = None
        else:
            self._places[name] = len(self._order)
            self._order.append(name)
            self._decode.join(kind, pace)

    def open(self, instance_id: str) -> None:
        """Let new requests reach it."""
        self._let(instance_id, take=True)

    def close(self, instance_id: str) -> None:
        """Send it no new requests; its part of the queue goes back to the others."""
        self._let(instance_id, take=False)

    def remove(self, instance_id: str) -> None:
        """End it; requests that it holds fail."""
        seat, place = self._seat(instance_id), self._places[instance_id]
        if seat.role is Role.PREFILL:
            self._end_prefill(place)
            self._holding = None
        else:
            self._decode.remove(place)
            self._order.remove(instance_id)
            self._places.update({name: at for at, name in enumerate(self._order)})
        for table in (self._seats, self._places, self._paces, self._warm_at):
            table.pop(instance_id, None)
        self._changed = True

    def held(self, instance_id: str) -> float:
        """Return the requests that it still works on, holds for a fetch, or has queued."""
        seat, place = self._seat(instance_id), self._places[instance_id]
        if seat.role is Role.PREFILL:
            if self._holding is None:
                self._holding = self._slots.held(self._prefill.shifts)[:, COUNT]
            holds = float(self._holding[place])
            holds += self._prefill.backlog.requests * float(self._slots.queue_shares()[place])
        else:
            queued = self._decode.waiting * float(self._decode.queue_shares()[place])
            holds = float(self._decode.sums[0, place]) + queued
        return holds if holds > _NOBODY else 0.0

    # ---- time ----------------------------------------------------------------------------------

    def advance(self, requests: Floats, input_tokens: Floats, output_tokens: Floats) -> None:
        """Move on one second, in which these arrive."""
        now = self._now
        self._holding = None
        self._warm()
        if self._changed:
            self._settle()
        self._decode.advance(now)
        arrived = self._arrive(np.array((requests, input_tokens, output_tokens)))
        self._prefill.start(now, arrived, self._decode.first_step)
        came = np.zeros((len(requests), WIDTH))
        for shift, leaving in self._prefill.ends(now):
            self._slots.count(shift, leaving)
            came += leaving.sum(axis=0)
        self._decode.receive(now, came)
        self._now = now + 1

    def readings(self) -> Readings:
        """Return what every joined engine's metrics say now."""
        prefills = [name for name in self._seats if self._seats[name].role is Role.PREFILL]
        places = np.array([self._places[name] for name in prefills], dtype=np.int64)
        return self._meters.read(
            (prefills, places),
            self._order,
            (self._prefill, self._slots),
            self._decode,
            self._links.load,
        )

    def outcomes(self) -> Outcomes:
        """Return what became of all requests so far, by second of arrival."""
        _, came, tokens = self._decode.running()
        return self._tally.outcomes((came, tokens))

    # ---- inside --------------------------------------------------------------------------------

    def _arrive(self, sums: Floats) -> Arrived:
        now = self._now
        total, tokens, _ = sums.sum(axis=1).tolist()
        self._tally.at(now, ARRIVED, total)
        self._tally.at(now, INPUT_TOKENS, tokens)
        _, prompts, outputs = sums
        longest, most = self._limits
        long = (prompts > longest * sums[COUNT]) | (prompts + outputs > most * sums[COUNT])
        if long.any():
            failed, tokens_failed, _ = sums[:, long].sum(axis=1).tolist()
            self._tally.at(now, FAILED, failed)
            sums = sums * ~long
            total, tokens = total - failed, tokens - tokens_failed
        return Arrived(now, sums, total, tokens)

    @property
    def _limits(self) -> tuple[float, float]:
        """The longest prompt, and the most tokens in all, that an engine has room for."""
        return (
            self._slots.longest or float(self._grids[Role.PREFILL].kv_capacity.max()),
            self._decode.limit or float(self._grids[Role.DECODE].kv_capacity.max()),
        )

    def _settle(self) -> None:
        """Let the engines that are open now do the work from now on, and pair them."""
        self._changed = False
        self._prefill.crew(self._slots.settle())
        self._links.pair(
            [(s, float(self._slots.speeds[at])) for s, at in self._opened(Role.PREFILL)],
            [(s, float(self._decode.places[at])) for s, at in self._opened(Role.DECODE)],
        )

    def _opened(self, role: Role) -> list[tuple[Seat, int]]:
        opened = self._slots.open if role is Role.PREFILL else self._decode.open
        places = [(seat, self._places[name]) for name, seat in self._seats.items()]
        return [(seat, at) for seat, at in places if seat.role is role and opened[at]]

    def _warm(self) -> None:
        if not self._warm_at:
            return
        for name in [name for name, at in self._warm_at.items() if at <= self._now]:
            del self._warm_at[name]
            prefill = self._seats[name].role is Role.PREFILL
            speeds = self._slots.speeds if prefill else self._decode.speeds
            speeds[self._places[name]] = self._paces[name]
            self._changed = True

    def _let(self, instance_id: str, *, take: bool) -> None:
        seat, place = self._seat(instance_id), self._places[instance_id]
        if seat.role is Role.PREFILL:
            self._slots.open[place] = take
        else:
            self._decode.let(place, take=take)
        self._changed = True

    def _end_prefill(self, slot: int) -> None:
        """Fail what a prefill engine computes, holds, and has of the queue."""
        share = self._slots.queue_shares()[slot]
        if share > 0:
            for second, requests in self._prefill.backlog.cut(float(share)):
                self._tally.at(second, FAILED, requests)
        for shift in self._prefill.shifts:
            for held in shift.drop(slot):
                came, lost = arrivals_of(held)
                self._tally.spread(came, FAILED, lost[None])
        self._slots.give(slot)

    def _seat(self, instance_id: str) -> Seat:
        try:
            return self._seats[instance_id]
        except KeyError:
            raise KeyError(f"{instance_id} has not joined") from None


def _profile(profile: EngineProfile | Mapping[Role, EngineProfile], role: Role) -> EngineProfile:
    if isinstance(profile, EngineProfile):
        return profile
    if role not in profile:
        raise ValueError(f"no profile for {role}")
    return profile[role]


def _bucket(grid: SpeedGrid) -> float:
    kinds = np.arange(len(grid.kv_capacity))
    step = grid.step_seconds(kinds, np.ones(len(kinds)), np.ones(len(kinds)))
    return max(1.0, float(np.floor(_BUCKET / step.min())))
