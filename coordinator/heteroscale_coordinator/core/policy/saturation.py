"""A queue at decode shows what decode carries at most, whatever its targets say.

While requests wait at decode all through the short window, its engines serve all they can: that is
their measured capacity. A target that is too high for the day's requests would wait until the queue
itself is demand enough, and the queue would stand for ever just below that. So decode must grow as
what is asked for is to what is served. Prefill has the same of its own (``choke``).
"""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.claims import Need
from heteroscale_coordinator.core.policy.scene import Scene

MOST = 2.0
"""Asked for is at most this multiple of what serves: a guess is not trusted further."""
FULL = 0.5
"""KV usage below which a queue has another cause than full engines (a slow link, a stuck one)."""


def saturated_need(scene: Scene) -> Need | None:
    """Return what decode asks for behind a queue that stood; None without one, or if that is there."""
    role = Role.DECODE
    if role not in scene.loads or scene.policy.demand == "served":
        return None
    demand, present = scene.loads[role].demand, scene.present
    waiting = _standing(scene, role)
    if waiting is None or not demand.value or not demand.served:
        return None
    short = demand.value / demand.served
    if short <= 1 + scene.policy.tolerance_out:
        return None
    count = int(
        scene.reckon(
            "needed_saturated",
            "ceil(settled * min(asked / served, most) - 1e-9)",
            role.value,
            "to serve what is asked, as measured",
            settled=sum(e.carrying and not e.young for e in scene.signals.engines(role)),
            asked=demand.value,
            served=demand.served,
            most=MOST,
        )
    )
    if count <= present[role]:
        return None
    why = (
        f"{waiting:.0f} requests wait at decode, which serves {demand.served:.0f} of "
        f"{demand.value:.0f} tok/s"
    )
    return Need({**present, role: count}, why, "saturation")


def _standing(scene: Scene, role: Role) -> float | None:
    """Return the requests that waited all through the short window; None where they are few.

    Or where they wait at less than half of the engines: the others do not serve all they can.
    """
    engines = scene.signals.engines(role)
    lowest = signals.gauge_lowest("waiting", scene.policy.window_out)
    waiting = signals.total(engines, lowest)
    each = scene.policy.consent.queue_per_instance
    told = [n for e in engines if e.carrying and not e.young and (n := lowest(e)) is not None]
    if sum(n > each for n in told) < len(told) / 2:
        return None
    allowed = each * sum(engine.carrying for engine in engines)
    usages = [usage for e in engines if (usage := e.newest("kv_usage")) is not None and e.carrying]
    if usages and sum(usages) < FULL * len(usages):
        return None
    return waiting if waiting is not None and waiting > allowed else None
