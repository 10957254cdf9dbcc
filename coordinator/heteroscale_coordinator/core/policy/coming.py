"""The coming backlog: what will wait when a launch decided now begins to serve.

Where a queue stands and more comes than is served, it grows all the time that the answer takes to
start. Who asks for the standing queue alone asks again and again, each time a start-up late. So
demand is read as ``lasting + coming × tokens a request ÷ horizon``, where the coming backlog is

    waited + (arriving − capacity) × start-up ÷ tokens a request − what the starting ones answer

Capacity is what a role serves behind its queue, or its targets where they promise more: what is
guessed at is never the growth. Nor does what grew for some seconds tell of ten minutes: where starts
take longer than two backlog horizons, the growth of those is all that is foreseen.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.backlog import answered, waited_at
from heteroscale_coordinator.core.policy.claims import Need
from heteroscale_coordinator.core.policy.proportional import needed_out
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.stability import startup_p90

_COMING = "max(0, waited + ((rate - chance) * each - capacity) * lead / each - answered / each)"


FARTHEST = 2.0
"""Backlog horizons through which a queue is thought to go on growing, at most."""


@dataclass(frozen=True, slots=True)
class _Coming:
    """Requests that will wait at a role, and what makes them."""

    requests: float
    text: str


def coming_need(scene: Scene) -> Need | None:
    """Return the counts that work off, in time, what piles up until they serve."""
    found = {role: one for role in scene.loads if (one := _coming(scene, role)) is not None}
    counts = {role: n for role in scene.leading_roles if (n := _needed(scene, role, found))}
    if not counts:
        return None
    return Need(
        {**scene.present, **counts}, ", and ".join(one.text for one in found.values()), "backlog"
    )


def _coming(scene: Scene, role: Role) -> _Coming | None:
    """Return what will wait at ``role``; None: no queue stands, or it does not grow, or goes by then."""
    engines, policy = scene.signals.engines(role), scene.policy
    demand = scene.loads[role].demand
    waited = waited_at(engines, policy.window_out)
    carrying = [engine for engine in engines if engine.carrying]
    terms = demand.sum.terms if demand.sum is not None else {}
    if "rate" not in terms or waited <= policy.consent.queue_per_instance * len(carrying):
        return None
    capacity = max(demand.served or 0.0, sum(engine.target for engine in carrying))
    rate, each = terms["rate"] - terms["chance"], terms["each"]
    if not rate * each > capacity:
        return None
    lead = min(startup_p90(scene.memory, policy), FARTHEST * policy.backlog_horizon)
    requests = scene.reckon(
        f"coming_{role.value}",
        _COMING,
        "requests",
        waited=waited,
        rate=terms["rate"],
        chance=terms["chance"],
        each=each,
        capacity=capacity,
        lead=lead,
        answered=answered(engines),
    )
    if requests < 1:
        return None  # what is starting answers it
    return _Coming(requests, f"{requests:.0f} requests will wait at {role.value} in {lead:.0f} s")


def _needed(scene: Scene, role: Role, found: dict[Role, _Coming]) -> int:
    """Return the count of ``role`` that a coming backlog asks for; 0 when what is there will do.

    What waits at prefill is decode's next; what waits at decode is no matter of prefill.
    """
    seen = [one for name, one in found.items() if name in (role, Role.PREFILL)]
    demand, supply = scene.loads[role].demand, scene.loads[role].supply
    if not seen or demand.lasting is None or demand.sum is None or "each" not in demand.sum.terms:
        return 0
    asked = scene.reckon(
        f"Q_coming_{role.value}",
        "lasting + coming * each / horizon",
        "tok/s",
        lasting=demand.lasting,
        coming=sum(one.requests for one in seen),
        each=demand.sum.terms["each"],
        horizon=scene.policy.backlog_horizon,
    )
    if asked <= (1 + scene.policy.tolerance_out) * supply.total:
        return 0
    return int(scene.keep(f"needed_coming_{role.value}", needed_out(asked, supply)))
