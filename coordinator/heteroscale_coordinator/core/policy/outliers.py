"""Instances whose readings stand apart from their peers': named, and kept from moving the fleet alone.

Peers are the instances of one role and GPU type that carry traffic and are heard. One is outlying when
it is *stuck* (it holds requests and makes no token), *slow* (much less than its peers at no less load),
or *absurd* (far more than its peers and than any target; or far more requests than they hold). Sums
then take what it says as far as its peers' range goes, and means do without it, so it neither hides
load nor raises it. With fewer than four peers, or where so many stand apart that they are the fleet,
nobody is set aside, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.windows import Counter, Engine
from heteroscale_coordinator.core.spec import PolicySpec

PEERS = 4
"""Fewest to be told apart from."""
MOST = 0.25
"""Share of a group that may stand apart; more is no exception."""
SLOW = 0.5
"""Of the peers' median rate."""
SPREAD = 5.0
"""Standard deviations, from the median absolute deviation, that a slow one is below."""
SIGMA = 1.4826
"""Of a normal distribution, standard deviation ÷ median absolute deviation."""
ABSURD = 4.0
"""Times the peers' median rate, and …"""
BEYOND = 3.0
"""… times its own target."""
CROWDED, CROWD = 10.0, 20.0
"""Requests held: times the peers' median and one more, and at least so many."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """One that stands apart."""

    instance_id: str
    why: str
    aside: bool
    """Whether it is kept from moving the fleet."""

    @property
    def text(self) -> str:
        """Who, and why."""
        return f"{self.instance_id} {self.why}"


def set_aside(
    role: Role, counter: Counter, engines: Sequence[Engine], policy: PolicySpec
) -> tuple[Outlier, ...]:
    """Return who stands apart of a role, and mark those (``Engine.aside``) that sums shall bound."""
    groups: dict[str, list[Engine]] = {}
    for engine in engines:
        if engine.carrying and engine.fresh:
            groups.setdefault(engine.member.instance.gpu_type, []).append(engine)
    found = [one for group in groups.values() for one in _of_group(role, counter, group, policy)]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is usual in a group; medians bear a minority that is not."""

    held: float | None
    rate: float | None
    lasting: float | None
    deviation: float
    """Of the lasting rate, as a standard deviation."""


def _of_group(
    role: Role, counter: Counter, group: list[Engine], policy: PolicySpec
) -> list[Outlier]:
    usual = _usual(counter, group, policy) if len(group) > PEERS else None
    # A prefill engine counts a long prompt's tokens at its end.
    length = policy.window_in if role is Role.PREFILL else policy.window_out
    apart = [
        (engine, why)
        for engine in group
        if (why := _stuck(engine, counter, length) or _odd(engine, counter, usual, policy))
    ]
    if not apart:
        return []
    end = ""
    if usual is None:
        end = f" (counted as it is: {len(group) - 1} peers, {PEERS} are needed)"
    elif len(apart) > max(1, int(MOST * len(group))):
        end = f" (counted as it is: {len(apart)} of {len(group)} stand apart)"
    for engine, _ in apart:
        engine.aside = not end
    return [
        Outlier(engine.member.instance.instance_id, why + end, not end) for engine, why in apart
    ]


def _usual(counter: Counter, group: list[Engine], policy: PolicySpec) -> _Usual:
    lasting = [rate for e in group if (rate := e.rate(counter, policy.window_in)) is not None]
    middle = _median(lasting)
    return _Usual(
        _median(e.newest("in_flight") for e in group),
        _median(e.rate(counter, policy.window_out) for e in group),
        middle,
        SIGMA * median(abs(rate - middle) for rate in lasting) if middle is not None else 0.0,
    )


def _stuck(engine: Engine, counter: Counter, length: float) -> str:
    if engine.rate(counter, length) != 0 or not engine.newest("running"):
        return ""
    span = engine.span(length)
    if span is None or span.seconds < length - engine.spacing:
        return ""
    held = min(span.gauges("running"), default=0.0)
    return f"is stuck: {held:.0f} running, no token in {length:g} s" if held >= 1 else ""


def _odd(engine: Engine, counter: Counter, usual: _Usual | None, policy: PolicySpec) -> str:
    """Return how an engine stands apart from what is usual; empty when it does not."""
    if usual is None:
        return ""
    held, crowd = engine.newest("in_flight"), usual.held
    if held is not None and crowd is not None and held > max(CROWD, CROWDED * (crowd + 1)):
        return f"holds {held:.0f} requests, its peers {crowd:.0f}"
    rate = engine.rate(counter, policy.window_out)
    if rate is None or usual.rate is None:
        return ""
    if rate > ABSURD * usual.rate and rate > BEYOND * engine.target:
        return f"says {rate:.0f} tok/s, its peers {usual.rate:.0f}"
    loaded = held is not None and held >= max(1.0, usual.held or 0.0)
    if not loaded or rate >= SLOW * usual.rate:
        return ""
    return _slow(engine.rate(counter, policy.window_in), usual)


def _slow(rate: float | None, usual: _Usual) -> str:
    """Return that it is slow, where that has lasted the long window and is no usual spread."""
    if rate is None or usual.lasting is None or rate >= SLOW * usual.lasting:
        return ""
    if usual.lasting - rate <= SPREAD * usual.deviation:
        return ""
    return f"is slow: {rate:.0f} tok/s, its peers {usual.lasting:.0f} at no more load"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
