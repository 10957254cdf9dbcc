"""Kubernetes' scoring: kube-scheduler's default plugins that tell nodes with GPUs apart, and weights.

NodeResourcesFit, LeastAllocated (weight 1): the emptier, the better. PodTopologySpread (2): few pods of
the same role on the node. InterPodAffinity (2): here a service prefers, as its author would write, the
domain of its wished level in which its other role stands. Each is normalised to 0 … 100 over the nodes
that fit, as the scheduler does; equal sums go by the order of the inventory, where it draws lots.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.placement.baseline import Item
from benchmarks.placement.port import Codes, Room, Values, peer_counts


class Kube:
    """The sum of the plugins' scores."""

    name = "kube"

    def of(self, room: Room, nodes: Codes, item: Item) -> Values:
        """Return minus the sum: the lowest wins."""
        least = 100.0 * room.free[nodes] / room.size[nodes]
        return -(least + 2 * self._spread(room, nodes, item) + 2 * self._near(room, nodes, item))

    def _spread(self, room: Room, nodes: Codes, item: Item) -> Values:
        there = np.zeros(len(room.ids))
        for spot in item.mates:
            if spot.role is item.role:
                there[room.number[spot.ranks[0].agent_id]] += 1
        most = there[nodes].max(initial=0)
        return 100.0 * (1 - there[nodes] / most) if most else np.full(len(nodes), 100.0)

    def _near(self, room: Room, nodes: Codes, item: Item) -> Values:
        peers: Mapping[str, int] = peer_counts(item.mates, item.role)
        if not peers:
            return np.zeros(len(nodes))
        domain = room.domain[item.ask.placement.affinity]
        weight = np.zeros(int(domain.max()) + 1)
        for agent_id, count in peers.items():
            weight[domain[room.number[agent_id]]] += count
        near: Values = 100.0 * weight[domain[nodes]] / weight.max()
        return near
