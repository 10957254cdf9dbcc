"""Counts by the clock (paper §3, the periodic policy): windows in which they are given, or bounded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale.words import Role
from heteroscale_coordinator.core.spec.names import Name
from heteroscale_coordinator.core.spec.ratio import RatioSpec
from heteroscale_coordinator.core.spec.roles import RoleSpec

CRON_FIELDS = 5


def _cron(text: str) -> str:
    """Return the expression, which five fields must say, and which must come true some day."""
    if len(text.split()) != CRON_FIELDS:
        raise ValueError(
            f"{text!r} is no cron time: five fields are due, minute hour day month weekday, "
            'such as "0 8 * * mon-fri"'
        )
    try:
        next(CronSim(text, datetime(2000, 1, 1)))  # noqa: DTZ001 - a wall clock's reading
    except CronSimError as error:
        raise ValueError(f"{text!r} is no cron time: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError(f"{text!r} never comes") from None
    return text


Cron = Annotated[
    str,
    AfterValidator(_cron),
    Field(description='Five fields, minute hour day month weekday, such as "0 8 * * mon-fri".'),
]
Counts = Mapping[Role, int]


class WindowSpec(DocumentModel):
    """A time that comes again and again, and what the counts are held to in it."""

    name: Name
    """Named in every decision that it binds."""
    start: Cron
    """When it begins, on the clocks of `timeZone`: minute, hour, day of month, month, weekday. A start
    in the hour that a clock change skips is at the jump; one in a repeated hour is at its first."""
    end: Cron | None = None
    """When it ends: the first such time after its start. Give this or `duration`."""
    duration: Annotated[Duration, Field(gt=0)] | None = None
    """How long it lasts, as time passes: over a clock change it ends an hour off on the clock."""
    priority: int = 0
    """Where windows overlap, the higher one's word on a role holds. Among equals the highest floor and
    the lowest ceiling hold, and a floor against a ceiling."""
    floor: dict[Role, PositiveInt] = {}
    """Fewest instances of these roles; the other role follows as the ratio asks. Launched a start-up
    time ahead."""
    ceiling: dict[Role, PositiveInt] = {}
    """Most instances of these roles: nothing grows beyond, and what is beyond leaves softly, in dampened
    steps, whatever demand says. Below what is needed it costs the SLO."""
    counts: dict[Role, PositiveInt] = {}
    """Just so many of these roles: the paper's periodic policy. Needs no signals at all."""

    @model_validator(mode="after")
    def _said(self) -> Self:
        if (self.end is None) == (self.duration is None):
            raise ValueError(f"window {self.name}: give `end` or `duration`, one of them")
        if not (self.floor or self.ceiling or self.counts):
            raise ValueError(f"window {self.name}: give `floor`, `ceiling` or `counts`")
        if self.counts and (self.floor or self.ceiling):
            raise ValueError(
                f"window {self.name}: `counts` are floor and ceiling in one; leave the others out"
            )
        for role in self.floor.keys() & self.ceiling.keys():
            if self.floor[role] > self.ceiling[role]:
                raise ValueError(
                    f"window {self.name}: floor {role} {self.floor[role]} is above its ceiling "
                    f"{self.ceiling[role]}"
                )
        return self

    @property
    def lows(self) -> Mapping[Role, int]:
        """Fewest instances, of the roles that it speaks of."""
        return self.counts or self.floor

    @property
    def highs(self) -> Mapping[Role, int]:
        """Most instances, of the roles that it speaks of."""
        return self.counts or self.ceiling


class ScheduleSpec(DocumentModel):
    """Counts by the clock, always inside the roles' own bounds and the budget."""

    time_zone: str = "UTC"
    """IANA name of the zone whose clocks the windows follow, such as Europe/Berlin."""
    windows: Annotated[tuple[WindowSpec, ...], Field(min_length=1, max_length=100)]
    """What holds when. Outside of all windows the roles' own bounds hold."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [window.name for window in self.windows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two windows are named {name}; give each a name of its own")
        return self

    def check(self, roles: Mapping[Role, RoleSpec], band: RatioSpec, max_gpus: int | None) -> None:
        """Refuse windows that the service's own bounds, ratio or budget cannot follow.

        Raises:
            ValueError: with the window, what it says, and what stands against it.

        """
        for number, window in enumerate(self.windows):
            where = f"policy.schedule.windows.{number} ({window.name})"
            try:
                _check_bounds(window, roles)
                _check_ratio(window, roles, band)
                _check_budget(window, roles, max_gpus)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None


def _check_bounds(window: WindowSpec, roles: Mapping[Role, RoleSpec]) -> None:
    for kind in ("floor", "ceiling", "counts"):
        for role, count in getattr(window, kind).items():
            if role not in roles:
                raise ValueError(f"{kind} names {role}, which the service has not")
            low, high = roles[role].min, roles[role].max
            if not low <= count <= high:
                raise ValueError(f"{kind} {role} {count} is outside its bounds {low} to {high}")


def _check_ratio(window: WindowSpec, roles: Mapping[Role, RoleSpec], band: RatioSpec) -> None:
    """Refuse counts, floors or ceilings beside which no counts lie in the ratio's band."""
    if Role.PREFILL not in roles or not _meets(roles, {}, {}, band):
        return
    if _meets(roles, window.lows, window.highs, band):
        return
    said = [
        f"{kind} {' and '.join(f'{role} {n}' for role, n in given.items())}"
        for kind, given in (
            ("counts", window.counts),
            ("floor", window.floor),
            ("ceiling", window.ceiling),
        )
        if given
    ]
    low, high = f"{band.min:g}", f"{band.max:g}"
    ratio = f"the ratio {low}" if low == high else f"the ratio's band {low} to {high}"
    prefill, decode = (
        f"{roles[role].min} to {roles[role].max} {role}" for role in (Role.PREFILL, Role.DECODE)
    )
    raise ValueError(
        f"{' with '.join(said)} is outside of {ratio} (prefill for each decode) whatever "
        f"else is chosen of {prefill} and {decode}{_hint(window, band)}"
    )


def _hint(window: WindowSpec, band: RatioSpec) -> str:
    decode = window.counts.get(Role.DECODE)
    if decode is None:
        return ""
    low, high = band.limits(decode)
    fitting = f"{low}" if low == high else f"{low} to {high}"
    return f"; beside {decode} decode there go {fitting} prefill"


def _meets(roles: Mapping[Role, RoleSpec], lows: Counts, highs: Counts, band: RatioSpec) -> bool:
    """Return whether any counts between the limits lie in the band."""
    prefill, decode = (
        (lows.get(role, roles[role].min), highs.get(role, roles[role].max))
        for role in (Role.PREFILL, Role.DECODE)
    )
    limits = (band.limits(count) for count in range(decode[0], decode[1] + 1))
    return any(low <= prefill[1] and high >= prefill[0] for low, high in limits)


def _check_budget(window: WindowSpec, roles: Mapping[Role, RoleSpec], max_gpus: int | None) -> None:
    least = {role: window.lows.get(role, rules.min) for role, rules in roles.items()}
    gpus = sum(n * roles[role].gpus * roles[role].ranks for role, n in least.items())
    if max_gpus is not None and gpus > max_gpus:
        raise ValueError(f"its counts need {gpus} GPUs, maxGpus is {max_gpus}")
