"""What a rival sees: scrapes of engines and routers every so often, as Prometheus would keep them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.policies.port import Counts
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.world.telemetry import COLUMNS, PLACE, Telemetry
from heteroscale_simulator.world.twin import RUNNING, STARTING, S
from heteroscale_simulator.world.yard import Tenant, Yard

KEPT = 3600.0
"""Seconds of scrapes that are kept; longer windows see this much."""
STALE = 60.0
"""An instance not scraped for so long has no newest value (Prometheus waits five minutes; who scales
by a value that old scales by chance)."""


@dataclass(frozen=True, slots=True)
class _Scrape:
    at: float
    values: Floats
    """Shape (slots, columns); NaN: not scraped. Slots are instances in the order of their first
    scrape; later scrapes have more of them."""
    requests: float
    """Arrived at the routers so far."""
    input_tokens: float


class Scrapes:
    """The port ``Seen`` of one service, filled by scraping it."""

    EVERY = 15
    """Seconds between scrapes."""

    def __init__(self, yard: Yard, tenant: Tenant, telemetry: Telemetry, load: Load) -> None:
        self._yard, self._tenant, self._telemetry = yard, tenant, telemetry
        self._delay = yard.fleet.telemetry.delay
        self._scrapes: deque[_Scrape] = deque(maxlen=round(KEPT / self.EVERY))
        self._slots: dict[str, int] = {}
        self._roles: list[Role] = []
        self._requests = np.concatenate(([0.0], load.requests.sum(axis=1).cumsum()))
        self._inputs = np.concatenate(([0.0], load.input_tokens.sum(axis=1).cumsum()))
        self._now = 0.0
        self._wanted: Counts = {}

    def second(self, second: int, wanted: Counts) -> None:
        """Let a second pass; scrape when it is time."""
        self._now, self._wanted = float(second), wanted
        if second % self.EVERY == 0:
            self._scrape(second)

    # ---- the port ------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the run's start."""
        return self._now

    @property
    def wanted(self) -> Counts:
        """Counts last asked for."""
        return dict(self._wanted)

    @property
    def ready(self) -> Counts:
        """Counts in service."""
        return self._yard.counts(self._tenant.name, S.IN_SERVICE)

    @property
    def present(self) -> Counts:
        """Counts in service or starting."""
        return self._yard.counts(self._tenant.name, S.IN_SERVICE, *STARTING)

    def offered(self, role: Role, window: float) -> float | None:
        """Return tokens/s offered to a role at the routers over the last ``window`` seconds."""
        seen = self._window(window)
        if len(seen) < 2:  # noqa: PLR2004 - two scrapes make a rise
            return None
        span = seen[-1].at - seen[0].at
        if role is Role.PREFILL:
            return (seen[-1].input_tokens - seen[0].input_tokens) / span
        made = self.rate("generation_tokens", Role.DECODE, window)
        finished = self.rate("requests_finished", Role.DECODE, window)
        if not made or not finished:
            return made
        arriving = (seen[-1].requests - seen[0].requests) / span
        return max(made, arriving * made / finished)

    def rate(self, counter: str, role: Role, window: float) -> float | None:
        """Return the rise per second of a counter, summed over the role's engines.

        Each engine's rise is from its first to its last scrape in the window, over the whole window's
        span: what a young engine did before its first scrape is not seen, as in PromQL.
        """
        seen = self._window(window)
        if len(seen) < 2:  # noqa: PLR2004 - two scrapes make a rise
            return None
        column = self._column(seen, PLACE[counter], role)
        known = ~np.isnan(column)
        engines = known.sum(axis=0) >= 2  # noqa: PLR2004 - as above
        if not engines.any():
            return None
        column, known = column[:, engines], known[:, engines]
        places = np.arange(column.shape[1])
        first = known.argmax(axis=0)
        last = len(seen) - 1 - known[::-1].argmax(axis=0)
        rises = column[last, places] - column[first, places]
        return float(rises.sum()) / (seen[-1].at - seen[0].at)

    def gauge(self, name: str, role: Role) -> Mapping[str, float]:
        """Return the newest values of a gauge by instance in service."""
        found: dict[str, float] = {}
        place, slots = PLACE[name], self._slots
        left = [
            twin.instance_id
            for twin in self._tenant.twins.values()
            if twin.role is role and twin.state is S.IN_SERVICE and twin.instance_id in slots
        ]
        for scrape in reversed(self._window(STALE)):
            values = scrape.values[:, place].tolist()
            width = len(values)
            told = {n: values[slots[n]] for n in left if slots[n] < width}
            found |= {n: value for n, value in told.items() if value == value}  # noqa: PLR0124 - NaN
            left = [n for n in left if n not in found]
            if not left:
                break
        return found

    # ---- inside --------------------------------------------------------------------------------

    def loads(self) -> Mapping[str, float]:
        """Return the newest running + waiting by instance, as a scaler's scale-in would read it."""
        loads: dict[str, float] = {}
        for role in self._tenant.spec.roles:
            running, waiting = self.gauge("running", role), self.gauge("waiting", role)
            loads |= {name: running[name] + waiting[name] for name in running}
        return loads

    def _scrape(self, second: int) -> None:
        look = self._telemetry.look(float(second))
        twins = self._tenant.twins
        ids = [n for n in look.rows if n in twins and twins[n].state in RUNNING]
        for name in ids:
            if name not in self._slots:
                self._slots[name] = len(self._slots)
                self._roles.append(twins[name].role)
        values = np.full((len(self._slots), len(COLUMNS)), np.nan)
        missed = self._telemetry.missed(len(ids))
        heard = [n for k, n in enumerate(ids) if missed is None or not missed[k]]
        if heard:
            values[[self._slots[name] for name in heard]] = self._telemetry.told(look, heard)
        known = min(second, len(self._requests) - 1)
        self._scrapes.append(
            _Scrape(float(second), values, float(self._requests[known]), float(self._inputs[known]))
        )

    def _window(self, window: float) -> list[_Scrape]:
        """Return the scrapes of the last ``window`` seconds that have come in, oldest first."""
        newest, oldest = self._now - self._delay, self._now - self._delay - window
        return [s for s in self._scrapes if oldest - 1e-6 <= s.at <= newest]

    def _column(self, seen: list[_Scrape], place: int, role: Role) -> Floats:
        width = len(self._slots)
        column = np.full((len(seen), width), np.nan)
        for row, scrape in enumerate(seen):
            column[row, : len(scrape.values)] = scrape.values[:, place]
        mask = np.fromiter((r is role for r in self._roles), dtype=bool, count=width)
        result: Floats = column[:, mask]
        return result
