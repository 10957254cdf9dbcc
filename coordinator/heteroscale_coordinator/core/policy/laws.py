"""All laws, side by side: whoever asks for most is heard, and nobody leaves below the highest floor.

A law is a function of the scene, in a file of its own; it is named here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.claims import Floor, Need
from heteroscale_coordinator.core.policy.coming import coming_need
from heteroscale_coordinator.core.policy.forecast import forecast_floor, forecast_need
from heteroscale_coordinator.core.policy.linear import signal_floor, signal_need
from heteroscale_coordinator.core.policy.reserve import peak_floor, reserve_need
from heteroscale_coordinator.core.policy.saturation import saturated_need
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.throughput import prefill_need, sizing_need
from heteroscale_coordinator.core.policy.velocity import (
    velocity_alone,
    velocity_floor,
    velocity_need,
)

THROUGHPUT: tuple[Callable[[Scene], Need | None], ...] = (
    *(sizing_need, prefill_need, saturated_need, coming_need),
)
"""Those that follow demand in tokens; silent where the service is driven by something else."""
NEEDS: tuple[Callable[[Scene], Need | None], ...] = (
    *THROUGHPUT,
    velocity_need,
    forecast_need,
    signal_need,
    reserve_need,
)
"""Laws that may ask for more. The first that speaks names the decision."""
FLOORS: tuple[Callable[[Scene], Floor | None], ...] = (
    *(velocity_floor, forecast_floor, signal_floor, peak_floor),
)
"""Laws that may keep what demand alone would let go."""


def need_of(scene: Scene) -> Need | None:
    """Return what the laws ask for beyond what is present; None when none asks for anything."""
    silent = (*THROUGHPUT, reserve_need) if velocity_alone(scene) else ()
    if scene.policy.driver != "demand":
        silent = (*THROUGHPUT, forecast_need, reserve_need)
    needs = [need for law in NEEDS if law not in silent and (need := law(scene)) is not None]
    if not needs:
        return None
    counts = {
        role: max([n, *(need.counts.get(role, 0) for need in needs)])
        for role, n in scene.present.items()
    }
    return Need(counts, ", and ".join(need.why for need in needs), needs[0].bound_by)


def floors(scene: Scene) -> list[Floor]:
    """Return what every law lets remain; each is told in the inputs."""
    found = []
    for law in FLOORS:
        silent = law in (forecast_floor, peak_floor) and scene.policy.driver != "demand"
        floor = None if silent else law(scene)
        if floor is not None:
            scene.inputs[f"floor_{floor.law}"] = floor.why
            found.append(floor)
    return found


def floors_of(scene: Scene) -> dict[Role, int]:
    """Return the fewest that all laws let remain, of the roles that some law speaks for."""
    most: dict[Role, int] = {}
    for floor in floors(scene):
        for role, count in floor.counts.items():
            most[role] = max(count, most.get(role, 0))
    return most
