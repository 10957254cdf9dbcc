"""What demand was lately: the peaks that scale-in must respect, the rises that a reserve is sized by.

Tracks of engines reach two minutes back; peaks and rises are wanted for longer. So a few numbers a
role are remembered, one slot every half minute: the memory changes no more often than that. A hole
of more than two slots begins anew, and until the slots reach through ``hold`` again nothing leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.demand import DemandPast
from heteroscale_coordinator.core.policy.demand import demand_on, lasting_peak
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.stability import startup_p90
from heteroscale_coordinator.core.spec import PolicySpec

SLOT = 30.0
"""Seconds between what is remembered, at most; see ``slot_of``."""
SHORTEST_SLOT = 1.0
HOLE = 2.5
"""Slots without a word, beyond the freshness, after which what was before is forgotten."""
MOST_SLOTS = 60
"""Slots kept at most: half an hour. A longer start-up is read as that."""
ABSURD = 1e15
"""Tokens/s that nobody serves: a garbled reading, whose square would be no number any more."""
FADING_LEADS = 6.0
"""Start-up times that rises are remembered for, at least."""
APART = 2
"""Slots between two means of which neither holds what the other does."""
FEWEST = 3
"""Changes from minute to minute that say something."""
LITTLE = 0.01
"""Share of the memory below which it is not worth to look at what nobody watched."""
LARGEST_RISE = 0.5
"""Share of what demand was before, up to which a rise counts: beyond it lie jumps, not a course."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Demand to be ready for: the mean of the long window, and the reserve on top; tokens/s."""

    mean: float
    spread: float
    """Mean square of its rises within a start-up time, as watched; (tokens/s)²."""
    wander: float = 0.0
    """The same as its changes from minute to minute would have it."""
    unwatched: float = 0.0
    """How much of the memory of rises nobody has watched yet, 1 to 0: there ``wander`` counts."""
    deviations: float = 0.0
    most: float = 0.0
    """Largest reserve, as a share of the mean."""

    @property
    def reserve(self) -> float:
        """What is kept ready."""
        risen = self.deviations * math.sqrt(self.spread + self.unwatched * self.wander)
        return min(self.most * self.mean, risen)

    @property
    def total(self) -> float:
        """Both together."""
        return self.mean + self.reserve


def slot_of(policy: PolicySpec) -> float:
    """Return the seconds of one slot: at most 30; a tenth of ``hold``, else half ``windowIn``."""
    length = policy.hold / 10 if policy.hold else policy.window_in / 2
    return min(SLOT, max(SHORTEST_SLOT, length))


def _hole(policy: PolicySpec) -> float:
    return HOLE * slot_of(policy) + policy.freshness


def demand_past(scene: Scene) -> Mapping[Role, DemandPast]:
    """Return what is remembered of demand, with a slot more when one is over.

    What is unknown now adds nothing; it becomes a hole if it stays unknown.
    """
    known = scene.memory.demand
    found = {role: _moved_on(scene, role, known.get(role)) for role in scene.leading_roles}
    return {role: past for role, past in found.items() if past is not None}


def _moved_on(scene: Scene, role: Role, past: DemandPast | None) -> DemandPast | None:
    now = scene.now
    if past is not None and 0 <= now - past.at < slot_of(scene.policy):
        return past
    engines = {name: scene.signals.engines(name) for name in scene.loads}
    mean = demand_on(role, engines, scene.spec, length=scene.policy.window_in).lasting
    peak = lasting_peak(engines, scene.view, role, slot_of(scene.policy))
    if mean is None or peak is None or not max(mean, peak) < ABSURD:
        return past
    if past is None or not 0 <= now - past.at <= _hole(scene.policy):
        past = DemandPast(now, since=now if past is None else past.since)
    lead = _lead(scene)
    spread, means = _spread(scene, past, mean, lead), (*past.means, mean)[-(lead + 1) :]
    past = replace(past, at=now, means=means, spread=spread)
    peak = max(peak, _expected(scene, mean, past).total)
    held = 1 + math.ceil(scene.policy.hold / slot_of(scene.policy))
    return replace(past, peaks=(*past.peaks, peak)[-held:])


def _lead(scene: Scene) -> int:
    """Return the slots from deciding on a launch until it shows."""
    seconds = startup_p90(scene.memory, scene.policy) + scene.policy.window_out
    return min(MOST_SLOTS, max(1, math.ceil(seconds / slot_of(scene.policy))))


def _spread(scene: Scene, past: DemandPast, mean: float, lead: int) -> float:
    if len(past.means) < lead:
        return past.spread
    rise, slot = _rise(past.means[-lead], mean), slot_of(scene.policy)
    return past.spread + (rise * rise - past.spread) * slot / _fading(scene, lead)


def _fading(scene: Scene, lead: int) -> float:
    """Return the seconds in which old rises fade to a third (e)."""
    return max(scene.policy.reserve.memory, FADING_LEADS * lead * slot_of(scene.policy))


def _rise(before: float, mean: float) -> float:
    """Return by how much demand rose, up to half of what it was; a fall is none.

    Else one jump to many times the demand would keep the largest reserve on the height that it led
    to, where nothing so large has ever come on top.
    """
    return min(max(0.0, mean - before), LARGEST_RISE * before)


def _expected(scene: Scene, mean: float, past: DemandPast) -> Expected:
    """Return the demand to be ready for after ``mean``, by what is remembered."""
    rules, lead = scene.policy.reserve, _lead(scene)
    watched = math.inf if past.since is None else max(0.0, scene.now - past.since)
    unwatched = math.exp(-watched / _fading(scene, lead))
    wander = _wander(past.means, lead) if unwatched > LITTLE else 0.0
    return Expected(mean, past.spread, wander, unwatched, rules.deviations, rules.most)


def _wander(means: Sequence[float], lead: int) -> float:
    """Return the mean square by which demand may change in ``lead`` slots, as a random walk would.

    By its changes from one minute to the next, half of which were smaller than what counts: the first
    moments of a service are no course. Few of them say nothing.
    """
    changes = sorted(
        _change(older, newer) for older, newer in zip(means, means[APART:], strict=False)
    )
    if len(changes) < FEWEST:
        return 0.0
    return changes[len(changes) // 2] ** 2 * lead / APART


def _change(before: float, after: float) -> float:
    """Return by how much demand changed; a jump (``LARGEST_RISE``) is no course, and counts as none."""
    change = abs(after - before)
    return change if change <= LARGEST_RISE * before else 0.0


def expected_of(scene: Scene, role: Role) -> Expected | None:
    """Return the demand to be ready for; None when nothing recent is remembered.

    Its mean is that of the newest slot, or of the newest half of the long window where that is more:
    in a rise a slot's mean is three quarters of a minute old, a third of a start-up.
    """
    past = scene.memory.demand.get(role)
    if past is None or not past.means or scene.now - past.at > _hole(scene.policy):
        return None
    engines = {name: scene.signals.engines(name) for name in scene.loads}
    newest = demand_on(role, engines, scene.spec, length=newest_window(scene.policy)).lasting
    newest = newest if newest is not None and newest < ABSURD else 0.0
    return _expected(scene, max(past.means[-1], newest), past)


def newest_window(policy: PolicySpec) -> float:
    """Return the seconds over which a rise is read: half the long window, never below the short one."""
    return max(policy.window_out, policy.window_in / 2)


def held_peak(scene: Scene, role: Role) -> float | None:
    """Return the highest demand within ``hold``; None until so much is remembered."""
    past = scene.memory.demand.get(role)
    slots = math.ceil(scene.policy.hold / slot_of(scene.policy))
    if past is None or len(past.peaks) < slots or scene.now - past.at > _hole(scene.policy):
        return None
    return max(past.peaks[-(slots + 1) :], default=0.0)
