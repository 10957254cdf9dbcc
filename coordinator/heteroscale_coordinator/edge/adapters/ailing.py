"""Nodes whose hardware an agent within them found sick, as their cluster is to be told; and when well.

A node is sick once an agent that stands within it has said so for a while, and well once one has said
that for longer. Where nobody tells any more (the job on it has ended) nothing is known, and its mark
stands until an administrator, or an agent, says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heteroscale_coordinator.core.health import sick_gpus
from heteroscale_coordinator.core.state import Agent, State
from heteroscale_scheduler_adapters.port import Node

SICK_FOR = 60.0
"""Seconds: ports that flap are not worth a node's drain."""
WELL_FOR = 600.0
_AGAIN = 60.0
"""Before a node is asked for once more: its cluster may refuse."""


class Ailing:
    """See the module."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._since: dict[str, tuple[bool, float]] = {}
        """Of each node that is told of: whether it is sick, and since when."""
        self._asked: dict[str, float] = {}

    def changes(
        self, state: State, nodes: Mapping[str, Node], now: float
    ) -> Iterator[tuple[str, str]]:
        """Yield nodes whose mark should be another, and what it should say; empty: none."""
        told = _told(state, self._prefix)
        for name in self._since.keys() - told.keys():
            del self._since[name]
        for name, why in told.items():
            node = nodes.get(name)
            if node is None:
                continue
            before, since = self._since.get(name, (not why, now))
            if before is not bool(why):
                since = now
            self._since[name] = bool(why), since
            due = now - since >= (SICK_FOR if why else WELL_FOR)
            other = not (node.marked or node.closed) if why else bool(node.marked)
            if due and other and now - self._asked.get(name, now - _AGAIN) >= _AGAIN:
                self._asked[name] = now
                yield name, why


def _told(state: State, prefix: str) -> dict[str, str]:
    """Return what agents say now of the nodes that they stand in: what is wrong, or nothing."""
    found: dict[str, list[str]] = {}
    for agent in state.agents.values():
        if agent.within.startswith(prefix) and _tells(agent):
            said = sick_gpus(agent)
            found.setdefault(agent.within.removeprefix(prefix), []).extend(
                f"GPU {index}: {why}" for index, why in sorted(said.items())
            )
    return {name: "; ".join(dict.fromkeys(said)) for name, said in found.items()}


def _tells(agent: Agent) -> bool:
    """Return whether an agent is heard and has told how its devices are."""
    return agent.connected and not agent.silent and bool(agent.devices.gpus())
