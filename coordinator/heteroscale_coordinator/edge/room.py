"""What operators are told of a node's room: what the coordinator's own placement would see of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.clock import mint
from heteroscale_coordinator.core import breaker, sites, subclusters
from heteroscale_coordinator.core.breaker import NOTHING_BARRED
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.state import Agent, State


class Room:
    """Answers for one node after the other, at one moment; nothing is changed by it."""

    def __init__(self, state: State, now: float, service: str = "") -> None:
        """Look at the committed state; as ``service`` may use it, when one is named."""
        self._draft = Draft(state, now, mint)
        self._barred, self._avoid = NOTHING_BARRED, dict[str, float]()
        self._proof = 0.0
        if (found := state.services.get(service)) is not None:
            spec = found.spec.policy.stability.breaker
            self._proof = spec.proof
            self._barred = breaker.barred(
                found.memory, spec, state.of_service(service), now, state.sub_cluster
            )
            self._avoid = dict(found.memory.avoid)

    def prices(self) -> Mapping[str, float]:
        """Return the price of a GPU-hour by GPU type."""
        return self._draft.state.rules.prices

    def sub_clusters(self) -> Iterator[pb.SubCluster]:
        """Yield what is to be told of sub-clusters, in order of their names."""
        state = self._draft.state
        for name, told in subclusters.outlook(state, self._barred).items():
            rules = state.rules.sub_clusters.get(name)
            yield pb.SubCluster(
                name=name,
                left_out=told.left_out,
                trial=told.trial,
                gpu_prices=told.prices,
                gpu_quotas=told.quotas,
                service_quotas=rules.service_quotas if rules is not None else {},
            )

    def vendors(self) -> Mapping[str, str]:
        """Return the vendor of each GPU type, as far as turns have read; empty where all are of one.

        Not ``sites.vendors``: that reads whatever is stale, which is a turn's work and its memory.
        """
        return self._draft.state.seen.vendors()

    def breakers(self) -> Mapping[str, str]:
        """Return what the service's breakers close, and what they leave to a trial, in words."""
        barred = self._barred
        trial = f"half-open: one instance is tried, more once it has served for {self._proof:g} s"
        return {
            **{f"node {name}": why for name, why in sorted(barred.nodes.items())},
            **{f"node {name}": trial for name in sorted(barred.trial_nodes)},
            **{f"GPU type {name}": why for name, why in sorted(barred.types.items())},
            **{f"GPU type {name}": f"{trial}, on each node" for name in sorted(barred.trial_types)},
        }

    def of(self, agent: Agent) -> pb.NodeRoom:
        """Return what placement may use of a node."""
        seen = sites.node(self._draft, agent, self._barred, self._avoid)
        trial, trial_types = sites.trials(seen, self._barred)
        return pb.NodeRoom(
            gpu_types=_types(seen),
            gpu_indices=sorted(seen.gpu_types),
            free_gpus=seen.free,
            held_gpus=sorted(sites.held(self._draft, agent.agent_id)),
            templates=sorted(seen.templates),
            closed_gpus=seen.closed,
            numa_nodes=_by_gpu(seen, seen.neighbourhoods),
            nvlink_groups=_by_gpu(seen, seen.links),
            limping_gpus=sorted(seen.limping),
            taints=map(str, seen.taints),
            closed="" if seen.usable else seen.why_not or "not usable",
            trial=trial,
            trial_types=trial_types,
        )


def _types(seen: NodeView) -> list[str]:
    types = [seen.gpu_types[index] for index in sorted(seen.gpu_types)]
    return types[:1] if len(set(types)) == 1 else types


def _by_gpu(seen: NodeView, told: Mapping[int, int]) -> list[int]:
    return [told.get(index, -1) for index in sorted(seen.gpu_types)] if told else []
