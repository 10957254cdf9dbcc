"""What a new coordinator makes of the time since the last commit, in which nobody watched.

That time counts toward nothing that takes instances away: the observation of a soft scale-in, the
time demand has been low and the cooldown of scale-in stand still in it. So they survive a restart as
they were, also when the wall clock has jumped ahead meanwhile. What adds instances is not held up.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.state import State


def resume(state: State, away: float) -> Changes:
    """Return the services with their memories moved on by ``away`` seconds; to be committed."""
    changes = Changes()
    for name, service in state.services.items():
        memory = moved_on(service.memory, away)
        if memory != service.memory:
            changes.services[name] = replace(service, memory=memory)
    return changes


def moved_on(memory: PolicyMemory, away: float) -> PolicyMemory:
    """Return ``memory`` with everything that waits to take away moved on by ``away`` seconds."""
    if away <= 0:
        return memory
    soft, low, ratio = memory.soft, memory.low_since, memory.ratio
    known = (memory.last_out_at, memory.last_guard_at, memory.last_in_at)
    changes = [at for at in known if at is not None]
    return replace(
        memory,
        # The cooldown of scale-in runs from the newest change of any kind; that of scale-out only
        # from the last scale-out, which stays where it is.
        last_in_at=max(changes) + away if changes else None,
        low_since=low + away if low is not None else None,
        soft=replace(soft, at=soft.at + away, until=soft.until + away) if soft else None,
        # How long an advice has stood is how long it was watched.
        ratio=replace(ratio, since=ratio.since + away) if ratio.since is not None else ratio,
        external=_others(memory.external, away),
        # What found no place is tried at once: its pace was that of the ticks before.
        stability=replace(memory.stability, unplaced=None),
    )


def _others(known: ExternalMemory, away: float) -> ExternalMemory:
    """Return what others are asked for; what stood was not seen in the meantime."""
    still = known.still_since
    return replace(
        known,
        still_since=still + away if still is not None else None,
        apart={role: since + away for role, since in known.apart.items()},
    )
