"""What is remembered whatever is decided: wanted counts, low demand, a breach, a peak."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.memory.demand import LengthsPast
from heteroscale_coordinator.core.memory.stability import Unplaced
from heteroscale_coordinator.core.policy import advice, bounds, latency, ratio
from heteroscale_coordinator.core.policy.history import recorded
from heteroscale_coordinator.core.policy.laws import need_of
from heteroscale_coordinator.core.policy.learning import learn
from heteroscale_coordinator.core.policy.lengths import lengths_past
from heteroscale_coordinator.core.policy.past import demand_past
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.shrink import is_low
from heteroscale_coordinator.core.policy.soft import LANDING
from heteroscale_coordinator.core.policy.stability import low_since
from heteroscale_coordinator.core.policy.transfer import remembered

LEAST_LANDING = 10.0
"""Seconds that withdrawals have to land, however short the observation."""


def wanted_now(scene: Scene) -> dict[Role, int]:
    """Return the wanted counts inside the bounds.

    A new service wants what it finds running, at least its minimum: one that is laid over a running
    fleet must not begin by shrinking it.
    """
    remembered, spec = scene.memory.wanted, scene.spec
    if any(role in remembered for role in spec.roles):
        return _with_followers_found(_unraised(bounds.clamp(remembered, spec), scene), scene)
    least, present = bounds.starting_counts(spec), scene.present
    if not any(present.values()):
        return least
    return bounds.clamp({role: max(n, present[role]) for role, n in least.items()}, spec)


def _unraised(wanted: dict[Role, int], scene: Scene) -> dict[Role, int]:
    """Return the counts without the prefill, or ffn, that a new ratio alone asks for.

    What is wanted is launched at once, as repair. A raised minimum of decode takes its share of
    prefill along; what a new ratio asks for comes in steps (``mend_ratio``).
    """
    before, found = scene.memory.wanted, dict(wanted)
    for pair in ratio.pairs_of(scene.spec):
        role = pair.follower
        if not {role, pair.lead} <= set(before):
            continue
        low = [pair.limits(counts).low for counts in (before, found)]
        most = before[role] + max(0, low[1] - low[0])
        found[role] = min(found[role], max(most, scene.spec.roles[role].min))
    return found


def _with_followers_found(wanted: dict[Role, int], scene: Scene) -> dict[Role, int]:
    """Return the counts with what a ratio lacks taken from what is there in surplus."""
    for pair in ratio.pairs_of(scene.spec):
        role = pair.follower
        most = min(scene.present[role], scene.spec.roles[role].max)
        raised = {**wanted, role: max(wanted[role], min(pair.limits(wanted).low, most))}
        wanted = raised if bounds.within(raised, scene.spec) else wanted
    return wanted


def remember(scene: Scene) -> PolicyMemory:
    """Return the memory brought up to date with what was heard.

    During a partition or below coverage, nothing that was heard shows that demand is low.
    """
    memory = replace(scene.memory, wanted=wanted_now(scene))
    heard = not scene.view.partition and enough_heard(scene)
    return replace(
        memory,
        low_since=low_since(memory, scene.now, low=heard and is_low(scene)),
        breach=latency.breach_now(memory, scene.latencies, scene.view),
        soft=_soft(scene, memory),
        forecast=recorded(scene, heard=heard),
        stability=replace(memory.stability, unplaced=_unplaced(scene, memory)),
        learning=learn(scene, heard=heard),
        transfer=remembered(
            memory.transfer, scene.transfer, scene.now, scene.policy.transfer.settle
        ),
        ratio=advice.learned(scene) if heard else memory.ratio,
        demand=demand_past(scene) if heard else memory.demand,
        lengths=_lengths(scene) if heard else memory.lengths,
    )


def _lengths(scene: Scene) -> LengthsPast | None:
    engines = {role: scene.signals.engines(role) for role in scene.spec.roles}
    return lengths_past(engines, scene.view)


def _unplaced(scene: Scene, memory: PolicyMemory) -> Unplaced | None:
    """Return the step that found no place, as long as more is asked for than there is."""
    kept = memory.stability.unplaced
    if kept is None or any(scene.present[role] < n for role, n in memory.wanted.items()):
        return kept
    return kept if need_of(scene) or latency.worst_breach(scene.latencies, scene.spec) else None


def enough_heard(scene: Scene) -> bool:
    """Return whether every measured role that carries traffic is heard to the least coverage."""
    least = scene.policy.min_coverage
    sizing = scene.signals.roles[scene.spec.sizing_role]
    roles = [scene.signals.roles[role] for role in scene.measured]
    carrying = [seen for seen in roles if seen.carrying]
    return bool(sizing.carrying) and all(seen.coverage >= least for seen in carrying)


def _soft(scene: Scene, memory: PolicyMemory) -> SoftScaleIn | None:
    """Return the soft scale-in to watch.

    One of which nothing is withdrawn is over once its commands have had time to land. Withdrawn
    instances that nobody watches are none of it: the turn takes them back into service.
    """
    soft = memory.soft
    if soft is None:
        return None
    if any(scene.view.withdrawn().values()):
        return replace(soft, peak=max(soft.peak, scene.sizing.demand.value or 0.0))
    landing = min(LANDING, max(scene.policy.observation, LEAST_LANDING))
    return None if scene.now - soft.at >= landing else soft
