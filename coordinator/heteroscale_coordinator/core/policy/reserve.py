"""The reserve: what is launched now serves a start-up later, so be ready for what may have risen by then.

Demand that has lately risen much within one start-up time is given so much room beforehand; demand
that is steady is given none. Of a service that is new such rises are not known yet, and unknown is
not zero: what it wanders by from minute to minute stands for them, less and less. While as much is
starting already, the rise that the reserve is sized by is being answered, and is not answered twice.
And what was needed within ``hold`` stays: the peak that was is the best guess at the peak that comes,
and taking it away only to launch it again is what makes counts flap.
"""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.claims import Floor, Need
from heteroscale_coordinator.core.policy.past import expected_of, held_peak
from heteroscale_coordinator.core.policy.proportional import needed_in, needed_out
from heteroscale_coordinator.core.policy.scene import Scene


def reserve_need(scene: Scene) -> Need | None:
    """Return the counts that carry the demand to be expected, where those present would not."""
    counts, why = {}, []
    if not scene.policy.reserve.deviations:
        return None
    for role in scene.leading_roles:
        supply, expected = scene.loads[role].supply, expected_of(scene, role)
        if expected is None:
            continue
        total = scene.reckon(
            f"expected_{role.value}",
            "mean + min(most * mean, deviations * sqrt(spread + unwatched * wander))",
            "tok/s",
            mean=expected.mean,
            most=expected.most,
            deviations=expected.deviations,
            spread=expected.spread,
            unwatched=expected.unwatched,
            wander=expected.wander,
        )
        starting = _starting(scene, role)
        if starting and starting + supply.next_target > expected.reserve:
            continue  # as much as it may rise by is on its way already, to an instance
        if total > (1 + scene.policy.tolerance_out) * supply.total:
            found = needed_out(total, supply)
            counts[role] = int(scene.keep(f"needed_reserve_{role.value}", found))
            why.append(f"{role.value} may be asked for {total:.0f} tok/s when a start is over")
    return Need({**scene.present, **counts}, ", ".join(why), "reserve") if counts else None


def _starting(scene: Scene, role: Role) -> float:
    """Return the tokens/s that what is starting will carry: the answer to a rise that was."""
    return sum(e.target for e in scene.signals.engines(role) if e.member.starting)


def peak_floor(scene: Scene) -> Floor | None:
    """Return the counts that the highest demand within ``hold`` needs; all, until that is known."""
    counts, why = {}, []
    if not scene.policy.hold:
        return _reserve_floor(scene)
    for role in scene.leading_roles:
        supply, peak = scene.loads[role].supply, held_peak(scene, role)
        if peak is None:
            counts[role] = supply.count
            why.append(f"{role.value}: less than {scene.policy.hold:g} s of demand is remembered")
            continue
        found = needed_in(peak, supply, scene.policy.tolerance_in, "for the highest held")
        counts[role] = int(scene.keep(f"needed_hold_{role.value}", found))
        why.append(
            f"{counts[role]} {role.value} for {peak:.1f} tok/s, the highest in {scene.policy.hold:g} s"
        )
    return Floor("hold", counts, "; ".join(why))


def _reserve_floor(scene: Scene) -> Floor | None:
    """Return what the reserve would ask for again at once: who has no ``hold`` may have a reserve."""
    if not scene.policy.reserve.deviations:
        return None
    counts = {}
    for role in scene.leading_roles:
        if (expected := expected_of(scene, role)) is not None:
            supply = scene.loads[role].supply
            found = needed_in(expected.total, supply, scene.policy.tolerance_in)
            counts[role] = int(scene.keep(f"stays_reserve_{role.value}", found))
    return Floor("reserve", counts, "as many as the reserve asks for") if counts else None
