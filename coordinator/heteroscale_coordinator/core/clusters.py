"""Folds what is told of clusters that schedulers run, beside what their nodes tell as agents do."""

from __future__ import annotations

from heteroscale_coordinator.core import of_nodes
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import ClusterEvent, ClusterTold, NodeGone, NodeTold


def told(draft: Draft, event: ClusterEvent) -> None:
    """Take in one event of a cluster."""
    match event:
        case NodeTold():
            _node_told(draft, event)
        case NodeGone():
            of_nodes.gone(draft, event.agent_id, f"node {event.agent_id} left its cluster")
        case ClusterTold():
            draft.state.clusters[event.name] = event


def _node_told(draft: Draft, event: NodeTold) -> None:
    agent = draft.state.agent(event.agent_id, draft.now)
    if (agent.holdings, agent.closed) != (event.holdings, event.closed):
        agent.holdings, agent.closed = event.holdings, event.closed
        draft.state.seen.touch(event.agent_id)
