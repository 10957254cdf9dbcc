"""Renewal: what a scheduler ends at a known moment is succeeded in time, and only then drained (ADR 18).

An instance whose end is near is marked as leaving: it serves on and is no supply any more, so the
policy's own repair launches what is missing, placed like everything else and free of cooldowns. Once as
many serve as are wanted, who leaves is drained, the nearest end first. Where no successor serves it is
drained shortly before its end anyhow, and it is said aloud: an end with grace beats a kill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil, floor
from typing import NamedTuple

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import busy, draining, issue
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import (
    STARTING_STATES,
    Action,
    Decision,
    Instance,
    Service,
    Verb,
    counts_as_supply,
)
from heteroscale_coordinator.core.policy.stability import startup_p90
from heteroscale_coordinator.core.policy.view import written

_STOPPABLE = frozenset({InstanceState.IN_SERVICE, InstanceState.WARMING, InstanceState.WITHDRAWN})
_SHARE_OF_LIFE = 0.5
"""A successor is launched no earlier than this share of a life before its end: else one that lives
shorter than it takes to start another would be succeeded without end."""
_LAST_SHARE = 0.25
"""Nor is anybody drained earlier than this share of its life before its end for want of a successor."""


def attend(draft: Draft, service: Service) -> None:
    """Mark whose end is near, and drain who has been succeeded or can wait no longer."""
    spec = service.spec
    if not spec.renewal.enabled or spec.hands_off or service.paused or service.deleting:
        return
    instances = draft.instances_of(service.name)
    if not any(one.ends_at is not None or one.leaves_by is not None for one in instances):
        return
    batches, stuck = 0, set[str]()
    for role in reversed(spec.roles):
        mates = [one for one in instances if one.role is role and one.state not in life.ENDED]
        mates = [_called_off(draft, service, one) for one in mates]
        moments = _moments(service, mates, batches)
        _mark(draft, service, mates, moments)
        stuck |= _stuck(draft, mates, moments)
        batches += ceil(len(moments) / _at_once(service, mates))
    for role in spec.roles:
        mates = [one for one in draft.instances_of(service.name) if one.role is role]
        _drain_succeeded(draft, service, role, mates)
    _drain_the_last(draft, service, draft.instances_of(service.name), stuck)


def lead(service: Service, one: Instance) -> float:
    """Return how many seconds before the end of ``one`` its successor is to be launched."""
    rules, policy = service.spec.renewal, service.spec.policy
    if rules.ahead is not None:
        return rules.ahead
    startup = max(startup_p90(service.memory, policy), one.startup_time or 0.0)
    return startup + _last_moment(service) + rules.margin


def _last_moment(service: Service) -> float:
    drain = service.spec.drain
    return service.spec.renewal.emptying + drain.settle + drain.grace


def _called_off(draft: Draft, service: Service, one: Instance) -> Instance:
    """Return ``one``, no longer leaving where its end was moved: it is supply again."""
    if one.leaves_by is None or draining(draft, one):
        return one
    if one.ends_at is not None and one.ends_at < one.leaves_by + lead(service, one):
        return one
    back = replace(one, leaves_by=None)
    draft.put_instance(back)
    return back


def _mark(
    draft: Draft,
    service: Service,
    mates: Sequence[Instance],
    moments: Iterable[tuple[Instance, _Moments]],
) -> None:
    """Mark whose successors are to be launched now, of one role at most a share at once."""
    room = _at_once(service, mates) - sum(one.leaves_by is not None for one in _serving(mates))
    for one, when in moments:
        if room > 0 and one.leaves_by is None and draft.now >= when.begins:
            room -= 1
            draft.put_instance(replace(one, leaves_by=one.ends_at))


class _Moments(NamedTuple):
    begins: float
    """When the successor is to be launched."""
    last: float
    """When it is drained where no successor can be launched."""


def _moments(
    service: Service, mates: Iterable[Instance], batches: int
) -> list[tuple[Instance, _Moments]]:
    """Return the moments of each of a role that serves and has an end, the nearest end first.

    Backwards from the last end: one batch comes a start-up and a drain before the one that follows it, so
    that the GPUs of one will do for the next. ``batches``: how many of other roles follow all of these.
    """
    serving = _serving(mates)
    at_once = _at_once(service, serving)
    ends = sorted((one.ends_at, one.instance_id, one) for one in serving if one.ends_at is not None)
    cycle = startup_p90(service.memory, service.spec.policy) + _last_moment(service)
    found: list[tuple[Instance, _Moments]] = []
    for end, _, one in reversed(ends):
        begins, last = end - lead(service, one), _no_later(service, one, end)
        begins, last = begins - batches * cycle, last - batches * cycle
        if len(found) >= at_once:
            then = found[-at_once][1]
            begins, last = min(begins, then.begins - cycle), min(last, then.last - cycle)
        begins = max(begins, end - _SHARE_OF_LIFE * (end - one.created_at))
        found.append((one, _Moments(begins, max(last, begins))))
    return found[::-1]


def _no_later(service: Service, one: Instance, end: float) -> float:
    """Return the very last moment to begin its drain, whoever else ends then."""
    return end - min(_last_moment(service), _LAST_SHARE * (end - one.created_at))


def _serving(mates: Iterable[Instance]) -> list[Instance]:
    return [one for one in mates if one.ours and one.state is InstanceState.IN_SERVICE]


def _at_once(service: Service, mates: Iterable[Instance]) -> int:
    return max(1, floor(service.spec.renewal.share * len(_serving(mates))))


def _drain_succeeded(draft: Draft, service: Service, role: Role, mates: Sequence[Instance]) -> None:
    """Drain as many as leave and are not needed any more for the wanted count to serve."""
    wanted = service.memory.wanted.get(role)
    serving = [one for one in mates if one.state is InstanceState.IN_SERVICE]
    if wanted is None or not all(_heard(draft, one) for one in mates if counts_as_supply(one)):
        return
    leaving = _nearest_first(one for one in serving if one.leaves_by is not None)
    leaving = [one for one in leaving if not busy(draft, one) and not draining(draft, one)]
    staying = sum(one.leaves_by is None for one in serving)
    going = leaving[: max(0, staying + len(leaving) - wanted)]
    if going:
        why = f"{_ending(draft, going)}: as many as are wanted serve without {_it(going)}"
        _drain(draft, service, going, f"{why}, so {_it(going)} {_are(going)} drained.", "renewal")


def _drain_the_last(
    draft: Draft, service: Service, instances: Sequence[Instance], stuck: set[str]
) -> None:
    """Drain whoever can wait for a successor no longer, and whoever is to make room for its own."""
    free = [
        one
        for one in _nearest_first(instances)
        if not busy(draft, one) and not draining(draft, one) and _heard(draft, one)
    ]
    unplaced = service.memory.stability.unplaced
    why = unplaced.why if unplaced is not None else "No successor serves yet."
    if late := [one for one in free if _is_late(draft, service, one)]:
        said = f"{_ending(draft, late)}, and no more time is left for a successor. {why}"
        said = f"{said} Drained now: an end with grace beats a kill."
        _drain(draft, service, late, said, "time_limit")
    if going := [one for one in free if one.instance_id in stuck and one not in late]:
        said = f"{_ending(draft, going)}, and no successor has a place beside {_it(going)}. {why}"
        said = f"{said} Drained now, to make room for it: others end soon after."
        _drain(draft, service, going, said, "time_limit")


def _is_late(draft: Draft, service: Service, one: Instance) -> bool:
    if one.ends_at is None or not one.ours or one.state not in _STOPPABLE:
        return False
    return draft.now >= _no_later(service, one, one.ends_at)


def _stuck(
    draft: Draft, mates: Sequence[Instance], moments: Iterable[tuple[Instance, _Moments]]
) -> set[str]:
    """Return who makes room for its own successor now: nothing of its role starts, and others end too."""
    if any(one.state in STARTING_STATES for one in mates):
        return set()
    return {
        one.instance_id
        for one, when in moments
        if one.leaves_by is not None and draft.now >= when.last
    }


def _drain(
    draft: Draft, service: Service, going: Sequence[Instance], reason: str, bound_by: str
) -> None:
    decision_id = draft.mint("dec")
    for one in going:
        draft.put_instance(replace(one, leaves_by=one.ends_at))
        issue(draft, Verb.DRAIN, one, decision_id)
    draft.record(
        Decision(
            decision_id,
            service.name,
            draft.now,
            Action.RENEW,
            reason,
            bound_by,
            inputs={"ends": ", ".join(f"{one.instance_id} {_left(draft, one)}" for one in going)},
            instance_ids=tuple(one.instance_id for one in going),
            last_at=draft.now,
        )
    )


def _ending(draft: Draft, going: Sequence[Instance]) -> str:
    counts = Counter(one.role for one in going)
    end = "its scheduler ends it" if len(going) == 1 else "their scheduler ends them, the first"
    return f"{written(counts)}: {end} {_left(draft, going[0])}"


def _left(draft: Draft, one: Instance) -> str:
    seconds = (one.ends_at or draft.now) - draft.now
    return f"in {seconds:.0f} s" if seconds > 0 else "now"


def _it(going: Sequence[Instance]) -> str:
    return "it" if len(going) == 1 else "them"


def _are(going: Sequence[Instance]) -> str:
    return "is" if len(going) == 1 else "are"


def _nearest_first(found: Iterable[Instance]) -> list[Instance]:
    return sorted(found, key=lambda one: (one.ends_at or 0.0, one.instance_id))


def _heard(draft: Draft, one: Instance) -> bool:
    agents = (draft.state.agents.get(rank.voice) for rank in one.ranks)
    return all(agent is not None and agent.heard and not agent.silent for agent in agents)
