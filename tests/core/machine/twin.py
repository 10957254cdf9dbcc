"""A copy of a state that shares nothing that a turn may change in place."""

from __future__ import annotations

from copy import deepcopy

from heteroscale_coordinator.core.state import State


def twin_of(state: State) -> State:
    """Return a state equal to ``state``; what is frozen all the way down is shared."""
    agents = state.agents.values()
    frozen = [
        *(state.instances.values()),
        *(state.commands.values()),
        *(service.spec for service in state.services.values()),
        *(agent.inventory for agent in agents),
        *(agent.devices for agent in agents),
        state.rules,
    ]
    return deepcopy(state, {id(value): value for value in frozen})
