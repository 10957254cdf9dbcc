"""The throughput law: decode's tokens size both roles, prefill's own lead it inside a band (paper §3)."""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.claims import Need
from heteroscale_coordinator.core.policy.demand import demand_on
from heteroscale_coordinator.core.policy.proportional import needed_out
from heteroscale_coordinator.core.policy.scene import Load, Scene


def over(load: Load, scene: Scene) -> bool:
    """Return whether a load is above 1 + θ."""
    return load.ratio is not None and load.ratio > 1 + scene.policy.tolerance_out


def sizing_need(scene: Scene) -> Need | None:
    """Return what decode (or aggregated) asks for: by all of it, or by its worst GPU type."""
    role, load, present = scene.spec.sizing_role, scene.sizing, scene.present
    limit = 100 * (1 + scene.policy.tolerance_out)
    if over(load, scene):
        count = _needed(scene, role, load)
        why = f"{role.value} demand is {load.percent} of supply, above {limit:.0f} %"
        return Need({**present, role: count}, why, "demand")
    if scene.worst is None or scene.worst[1] <= 1 + scene.policy.tolerance_out:
        return None
    gpu, load_of_type = scene.worst
    count = int(
        scene.reckon(
            "needed",
            "ceil(present * load - 1e-9)",
            role.value,
            present=present[role],
            load=load_of_type,
        )
    )
    why = f"{role.value} on {gpu or 'an unnamed GPU type'} carries {100 * load_of_type:.0f} %"
    scene.inputs["needed"] = (
        f"{count} {role.value} = {present[role]} × {load_of_type:.3f}, rounded up"
    )
    return Need({**present, role: max(count, present[role] + 1)}, why, "gpu_type")


def _needed(scene: Scene, role: Role, load: Load) -> int:
    """Return the instances needed, once the short window says that there are too few.

    A rise is older than it looks: while the window still holds what came before, its newest third
    tells how far the rise has got. Sizing by the larger one spares a second step after a cooldown.
    """
    engines = {name: scene.signals.engines(name) for name in scene.loads}
    length = scene.policy.window_out / 3
    newest = demand_on(role, engines, scene.spec, length=length).value or 0.0
    asked = max(load.demand.value or 0.0, newest)
    name = "needed" if role is scene.spec.sizing_role else f"needed_{role.value}"
    larger = f"the larger of {scene.policy.window_out:g} s and the newest {length:g} s"
    count = int(
        scene.keep(name, needed_out(asked, load.supply, f"{role.value}; asked is {larger}"))
    )
    scene.inputs[name] = (
        f"{count} {role.value} for {asked:.1f} tok/s, {larger}, "
        f"at {load.supply.next_target:g} each (present {load.supply.count})"
    )
    return count


def prefill_need(scene: Scene) -> Need | None:
    """Return what prefill asks for; a choked prefill takes decode along where the band demands it."""
    if Role.PREFILL not in scene.loads:
        return None
    load, present = scene.loads[Role.PREFILL], scene.present
    count, why = present[Role.PREFILL], ""
    if scene.prefill_leads and over(load, scene):
        count = _needed(scene, Role.PREFILL, load)
        why = f"prefill demand is {load.percent} of supply"
    decode = present[Role.DECODE]
    if scene.choked and scene.choked.prefill > present[Role.PREFILL]:
        count, why = max(count, scene.choked.prefill), scene.choked.why
        scene.keep("needed_choked", scene.choked.sum)
        scene.inputs["needed_prefill"] = f"{count} prefill to be starved no more"
        decode = max(decode, ratio.decode_for(count, scene.spec.ratio))
    if not why or ratio.prefill_for(decode, count, scene.spec.ratio) <= present[Role.PREFILL]:
        return None
    return Need({Role.PREFILL: count, Role.DECODE: decode}, why, "prefill")
