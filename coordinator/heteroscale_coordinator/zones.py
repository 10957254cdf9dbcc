"""Reads the time-zone database, and gives the core what it needs of it as plain tables.

The system's database is read, or that of the package ``tzdata`` where the system has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from heteroscale_coordinator.core.draft import Mint
from heteroscale_coordinator.core.events import ApplyService, Changes, Event
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from heteroscale_coordinator.core.zones import Zone

YEAR = 366 * 86_400.0
YEARS_BACK, YEARS_AHEAD = 2, 4
RENEW_BEFORE = YEAR
"""A table that ends within this time is read again."""
_DAY = timedelta(days=1)


class UnknownZoneError(ValueError):
    """No such zone; the text names near ones."""


def resolve(name: str, now: float) -> Zone:
    """Return the zone's table for some years around ``now`` (seconds since 1970).

    Raises:
        UnknownZoneError: the database has no zone of that name.

    """
    try:
        info = ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; a path that leads out; a folder
        raise UnknownZoneError(_unknown(name)) from None
    start = datetime.fromtimestamp(now, UTC).replace(microsecond=0) - YEARS_BACK * 366 * _DAY
    end = start + (YEARS_BACK + YEARS_AHEAD) * 366 * _DAY
    offsets = [(start.timestamp(), _offset(info, start))]
    day = start
    while day < end:
        if _offset(info, day + _DAY) != offsets[-1][1]:
            change = _change(info, day, day + _DAY)
            offsets.append((change.timestamp(), _offset(info, change)))
            day = change
        else:
            day += _DAY
    return Zone(name, tuple(offsets), end.timestamp())


def _offset(info: ZoneInfo, at: datetime) -> float:
    offset = at.astimezone(info).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _change(info: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second between the two with another offset than ``before``."""
    old = _offset(info, before)
    low, high = 0, round((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(info, before + timedelta(seconds=middle)) == old:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)


def _unknown(name: str) -> str:
    known = available_timezones()
    by_fold = {zone.casefold(): zone for zone in sorted(known)}
    by_fold |= {zone.rpartition("/")[2].casefold(): zone for zone in sorted(known) if "/" in zone}
    close = get_close_matches(name.replace(" ", "_").casefold(), by_fold, n=3, cutoff=0.6)
    near = list(dict.fromkeys(by_fold[key] for key in close))
    hint = f"; did you mean {' or '.join(near)}?" if near else ", such as Europe/Berlin"
    return f"no time zone {name!r} of the IANA database{hint}"


class ZonedStep:
    """The turn, with the tables of all zones that it may need laid into the state beforehand."""

    def __init__(self) -> None:
        self._due = float("-inf")
        """When all services are looked through again."""

    def __call__(self, state: State, events: Sequence[Event], now: float, mint: Mint) -> Changes:
        """Take one turn."""
        specs = [event.spec for event in events if isinstance(event, ApplyService)]
        if now >= self._due:
            self._due = now + 3600.0
            specs += [service.spec for service in state.services.values()]
        if specs:
            supply(state, specs, now)
        return step(state, events, now, mint)


def supply(state: State, specs: Iterable[ServiceSpec], now: float) -> None:
    """Give the state every zone that the specifications name, read anew where its table ends soon.

    A zone that the database (no longer) has is left as it is: the policy says so and takes nothing away.
    """
    for name in {spec.policy.schedule.time_zone for spec in specs if spec.policy.schedule}:
        known = state.zones.get(name)
        if known is not None and known.until - now > RENEW_BEFORE:
            continue
        try:
            state.zones[name] = resolve(name, now)
        except UnknownZoneError:
            continue
