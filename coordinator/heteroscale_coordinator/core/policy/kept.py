"""Why low demand leaves nothing to withdraw: which floor binds each role, and its number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.laws import floors
from heteroscale_coordinator.core.policy.scene import Held, Scene


class _Keeper(NamedTuple):
    """Who keeps all of a role that are there."""

    law: str
    text: str


def kept(scene: Scene, own: Mapping[Role, int], doing: str) -> Held:
    """Return the hold that names, role by role, what keeps all that are present.

    ``own`` is what each role needs for its own highest demand. A role that nobody keeps is kept by the
    ratio to the other, or by what is still starting. The sizing role's keeper binds.
    """
    found = {role: _keeper(scene, role, own.get(role, 0)) for role in scene.present}
    first = found.get(scene.spec.sizing_role) or next(filter(None, found.values()), None)
    if first is None:
        return Held("bounds", f"{doing}, but ratio and what is starting leave nothing to withdraw.")
    told = "; ".join(one.text for one in found.values() if one is not None)
    return Held(first.law, f"{doing}, but nothing may leave: {told}.")


def _keeper(scene: Scene, role: Role, own: int) -> _Keeper | None:
    count, least = scene.present[role], scene.spec.roles[role].min
    if count <= least:
        return _minimum(scene, role, least)
    for floor in floors(scene):
        if (n := floor.counts.get(role, 0)) >= count:
            return _Keeper(floor.law, f"{floor.law} keeps {n} {role.value} ({floor.why})")
    if own >= count:
        text = f"{role.value} at its highest in the long window needs {own}"
        return _Keeper("demand", text)
    return None


def _minimum(scene: Scene, role: Role, least: int) -> _Keeper:
    """Return the minimum, or the window of the schedule that lifts it."""
    plan = scene.view.plan
    written = scene.view.base_spec.roles[role].min
    if plan is not None and role in plan.floors and least > written:
        return _Keeper("schedule", f"the schedule keeps {least} {role.value} ({plan.text})")
    return _Keeper("bounds", f"{role.value} is at its minimum of {least}")
