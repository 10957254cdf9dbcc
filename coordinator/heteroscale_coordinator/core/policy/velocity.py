"""Token velocity (TokenScale, arXiv 2512.03416): the most tokens/s each stage moves, against arrivals.

It reads what arrives, so it leads: served tokens cannot exceed what there is. Prefill is sized by
arriving prompt tokens over ``min(V_P, V_N)``, decode by arriving output tokens, and by the tokens
that what runs should get within the TBT of the SLO, over ``V_D ÷ L``: a decoder that reads so many
tokens of context in a second makes fewer tokens the longer its contexts are. The paper has classes of
request lengths; engines tell means only, so one class stands for all.
"""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.claims import Floor, Need
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.steps import step_out
from heteroscale_coordinator.core.policy.velocity_stages import D, P, Stage, stages
from heteroscale_coordinator.core.spec.velocity import VelocitySpec

_WORDS = {P: "prompt tokens arrive", D: "output tokens are due"}


def velocity_alone(scene: Scene) -> bool:
    """Return whether velocity speaks instead of the throughput law: it is to, and knows both stages."""
    velocity = scene.policy.velocity
    if velocity is None or velocity.mode != "alone" or P not in scene.loads:
        return False
    return len(stages(scene, velocity, scene.policy.window_out, "")) == len((P, D))


def velocity_need(scene: Scene) -> Need | None:
    """Return what token velocity asks for beyond what is present; None when it asks for nothing."""
    velocity = scene.policy.velocity
    if velocity is None or P not in scene.loads:
        return None
    found = stages(scene, velocity, scene.policy.window_out, "")
    over = {role: stage for role, stage in found.items() if _over(scene, stage)}
    if P in over and _burst_is_borne(scene, velocity, over[P]):
        del over[P]
    if not over:
        return None
    counts = {role: _needed(scene, role, stage) for role, stage in over.items()}
    prefill = counts.get(P, scene.present[P])
    decode = counts.get(D, scene.present[D])
    # Decode goes along with the prefill that one step may add, not with all that is needed.
    reach = min(
        step_out(scene.present[P], prefill, scene.policy.max_step_out), scene.spec.roles[P].max
    )
    if reach > ratio.prefill_limits(decode, scene.spec.ratio).high:
        decode = max(decode, ratio.decode_for(reach, scene.spec.ratio))
    why = " and ".join(
        f"{_WORDS[role]} at {100 * stage.asked / stage.carried:.0f} % of what {role.value} moves"
        for role, stage in over.items()
    )
    return Need({P: prefill, D: decode}, f"token velocity: {why}", "velocity")


def velocity_floor(scene: Scene) -> Floor | None:
    """Return the fewest instances that leave 1 − θ of what they move to what arrives.

    Of the short and the long window the larger counts. What is unknown lets nobody go where velocity
    is alone, and has no say beside other laws.
    """
    velocity = scene.policy.velocity
    if velocity is None or P not in scene.loads:
        return None
    short = stages(scene, velocity, scene.policy.window_out, "")
    long = stages(scene, velocity, scene.policy.window_in, "_long")
    counts = {}
    for role in (P, D):
        if role in short and role in long:
            asked = max(short[role].asked, long[role].asked)
            counts[role] = short[role].left_with(asked, scene.policy.tolerance_in)
        elif velocity.mode == "alone":
            counts[role] = scene.present[role]
    if not counts:
        return None
    told = ", ".join(f"{n} {role.value}" for role, n in counts.items())
    return Floor("velocity", counts, f"{told} for what arrives")


def _over(scene: Scene, stage: Stage) -> bool:
    return bool(stage.carried) and stage.asked > (1 + scene.policy.tolerance_out) * stage.carried


def _needed(scene: Scene, role: Role, stage: Stage) -> int:
    count = scene.reckon(
        f"velocity_{role.value}_needed",
        "present + ceil(max(asked - carried, 0) / each)",
        "instances",
        present=len(stage.rates),
        asked=stage.asked,
        carried=stage.carried,
        each=stage.next_rate,
    )
    return round(count)


def _burst_is_borne(scene: Scene, velocity: VelocitySpec, stage: Stage) -> bool:
    """Return whether a burst of prompts is short, and decode instances take what is too much of it.

    One that the long window shows as well is no burst, and is launched for.
    """
    convertible = velocity.convertible
    lasting = stages(scene, velocity, scene.policy.window_in, "_long").get(P)
    if convertible is None or lasting is None or _over(scene, lasting):
        return False
    spare = scene.reckon(
        "velocity_convertible",
        "min(instances, serving) * tokens",
        "tok/s",
        instances=convertible.instances,
        serving=scene.view.serving()[D],
        tokens=convertible.tokens,
    )
    excess = stage.asked - (1 + scene.policy.tolerance_out) * stage.carried
    scene.inputs["convertible"] = (
        f"{convertible.instances} decode may take {spare:.0f} prompt tok/s of a burst that is "
        f"{excess:.0f} tok/s too much"
    )
    return excess <= spare
