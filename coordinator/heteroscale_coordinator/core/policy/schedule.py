"""Counts by the clock: which windows count now, and what they leave of a service's bounds.

A window narrows a role's bounds and never widens them: a floor lifts the minimum, a ceiling lowers
the maximum, counts do both, always inside the spec's own bounds and budget. All other stages then
work between the narrower bounds. A ceiling never forces a fall by itself: the maximum is what is
present until it has left softly (``follow``). Windows that begin within the start-up time count
already for what they lift, never for what they lower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.policy.timetable import next_span, span_at, written
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.spec.schedule import ScheduleSpec, WindowSpec
from heteroscale_coordinator.core.zones import Zone


@dataclass(frozen=True, slots=True)
class Claim:
    """What a window says of one role now."""

    window: str
    priority: int
    kind: str
    """``floor``, ``ceiling`` or ``counts``."""
    role: Role
    count: int
    when: str
    """Until or from when it is, in words."""


def told(claims: Iterable[Claim]) -> str:
    """Return claims in words: ``schedule office: floor 4 prefill, 8 decode until 19:00 UTC``."""
    windows: dict[tuple[str, str, str], dict[Role, int]] = {}
    for claim in claims:
        windows.setdefault((claim.window, claim.kind, claim.when), {})[claim.role] = claim.count
    return "; ".join(
        f"schedule {window}: {kind} "
        + ", ".join(f"{n} {role.value}" for role, n in counts.items())
        + f" {when}"
        for (window, kind, when), counts in windows.items()
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What the schedule makes of the bounds now."""

    spec: ServiceSpec
    """With the narrower bounds; every stage works with it."""
    lows: Counts
    """Fewest of each role that speaks."""
    highs: Counts
    """Most of each role; what is present beyond leaves softly."""
    floors: Mapping[Role, Claim]
    """Who holds a role's minimum up."""
    ceilings: Mapping[Role, Claim]
    """Who holds a role's maximum down."""
    trouble: str = ""
    """Why the schedule is not followed."""
    coming: str = ""
    """Which window comes next."""

    @property
    def static(self) -> frozenset[Role]:
        """The roles whose counts are given, so that no signal is needed."""
        return frozenset(role for role, one in self.ceilings.items() if one.kind == "counts")

    def given(self, role: Role) -> bool:
        """Return whether a role's count is given, by a window or by the ratio to one that is."""
        return role in self.static or bool(self.static and self.lows[role] == self.highs[role])

    @property
    def text(self) -> str:
        """What is in force, in words."""
        claims = [*self.floors.values(), *self.ceilings.values()]
        return self.trouble or told(claims) or f"no window is in force; {self.coming}"


def plan_of(
    spec: ServiceSpec, zones: Mapping[str, Zone], present: Counts, now: float, ahead: float
) -> Plan | None:
    """Return what the schedule makes of the bounds at ``now``; None without a schedule.

    ``ahead``: seconds that a launch takes to serve, by which what is lifted is begun earlier.
    """
    schedule = spec.policy.schedule
    if schedule is None:
        return None
    zone = zones.get(schedule.time_zone)
    if zone is None:
        return _lost(spec, present, schedule)
    floors = _strongest(_floors(schedule, zone, now, ahead), highest=True)
    ceilings = _strongest(_ceilings(schedule, zone, now), highest=False)
    _settle(floors, ceilings)
    lows, highs = _inside(spec, floors, ceilings)
    coming = _coming(schedule, zone, now)
    narrowed = _narrowed(spec, lows, highs, present)
    return Plan(narrowed, lows, highs, floors, ceilings, coming=coming)


def _coming(schedule: ScheduleSpec, zone: Zone, now: float) -> str:
    spans = [(next_span(window, zone, now), window.name) for window in schedule.windows]
    known = [(span.starts, name) for span, name in spans if span is not None]
    if not known:
        return "none comes"
    starts, name = min(known)
    return f"{name} is next, from {written(zone, starts, now)}"


def _lost(spec: ServiceSpec, present: Counts, schedule: ScheduleSpec) -> Plan:
    """Return the plan without a clock: what a window may ask for is not known, so nothing leaves."""
    lows = bounds.clamp(present, spec)
    highs = {role: rules.max for role, rules in spec.roles.items()}
    trouble = (
        f"time zone {schedule.time_zone} is not known to this coordinator: no window is followed, "
        "and nothing is withdrawn"
    )
    return Plan(_narrowed(spec, lows, highs, present), lows, highs, {}, {}, trouble)


def _floors(schedule: ScheduleSpec, zone: Zone, now: float, ahead: float) -> Iterator[Claim]:
    for window in schedule.windows:
        if not window.lows:
            continue
        span, when = span_at(window, zone, now), ""
        if span is not None:
            when = f"until {written(zone, span.ends, now)}"
        else:
            span = next_span(window, zone, now)
            if span is None or span.starts > now + ahead:
                continue
            when = f"from {written(zone, span.starts, now)}, a start-up time ahead"
        yield from _claims(window, window.lows, "floor", when)


def _ceilings(schedule: ScheduleSpec, zone: Zone, now: float) -> Iterator[Claim]:
    for window in schedule.windows:
        span = span_at(window, zone, now) if window.highs else None
        if span is not None:
            when = f"until {written(zone, span.ends, now)}"
            yield from _claims(window, window.highs, "ceiling", when)


def _claims(window: WindowSpec, said: Counts, kind: str, when: str) -> Iterator[Claim]:
    for role, count in said.items():
        name = "counts" if window.counts else kind
        yield Claim(window.name, window.priority, name, role, count, when)


def _strongest(claims: Iterable[Claim], *, highest: bool) -> dict[Role, Claim]:
    """Return, role by role, the claim of the highest priority; among equals the furthest one."""
    found: dict[Role, Claim] = {}
    for claim in claims:
        other = found.get(claim.role)
        rank = (claim.priority, claim.count if highest else -claim.count)
        if other is None or rank > (other.priority, other.count if highest else -other.count):
            found[claim.role] = claim
    return found


def _settle(floors: dict[Role, Claim], ceilings: dict[Role, Claim]) -> None:
    """Drop the weaker one where a floor stands above a ceiling; among equals the ceiling."""
    for role in floors.keys() & ceilings.keys():
        if floors[role].count > ceilings[role].count:
            weaker = ceilings if floors[role].priority >= ceilings[role].priority else floors
            del weaker[role]


def _inside(
    spec: ServiceSpec, floors: Mapping[Role, Claim], ceilings: Mapping[Role, Claim]
) -> tuple[dict[Role, int], dict[Role, int]]:
    """Return the fewest and the most of each role, inside bounds, ratio and budget."""
    lows = {role: rules.min for role, rules in spec.roles.items()}
    highs = {role: rules.max for role, rules in spec.roles.items()}
    for role, rules in spec.roles.items():
        if role in floors:
            lows[role] = min(max(floors[role].count, rules.min), rules.max)
        if role in ceilings:
            highs[role] = max(min(ceilings[role].count, rules.max), lows[role])
        highs[role] = max(highs[role], lows[role])
    if Role.PREFILL in lows:
        _in_the_band(spec, lows, highs)
    lows = bounds.clamp(lows, spec)
    return lows, {role: max(highs[role], lows[role]) for role in spec.roles}


def _in_the_band(spec: ServiceSpec, lows: dict[Role, int], highs: dict[Role, int]) -> None:
    """Let the other role follow what a window says of one, as far as its own limits allow."""
    prefill, decode, band = Role.PREFILL, Role.DECODE, spec.ratio
    if any(lows[role] > rules.min for role, rules in spec.roles.items()):
        needed = ratio.decode_for(lows[prefill], band)
        lows[decode] = min(max(lows[decode], needed), highs[decode])
        needed = ratio.prefill_limits(lows[decode], band).low
        most = max(ratio.prefill_limits(highs[decode], band).high, spec.roles[prefill].min)
        lows[prefill] = min(max(lows[prefill], needed), highs[prefill], most)
    if any(highs[role] < rules.max for role, rules in spec.roles.items()):
        most = ratio.prefill_limits(highs[decode], band).high
        highs[prefill] = max(min(highs[prefill], most), lows[prefill])
        while (
            highs[decode] > lows[decode]
            and ratio.prefill_limits(highs[decode], band).low > highs[prefill]
        ):
            highs[decode] -= 1


def _narrowed(spec: ServiceSpec, lows: Counts, highs: Counts, present: Counts) -> ServiceSpec:
    roles = {
        role: rules.model_copy(
            update={
                "min": lows[role],
                "max": max(highs[role], min(present.get(role, 0), rules.max)),
            }
        )
        for role, rules in spec.roles.items()
    }
    return spec.model_copy(update={"roles": roles})
