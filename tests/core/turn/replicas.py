"""Replicas that an HPA starts and stops: what the coordinator knows of them, agents told it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import RankFact
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import PLAIN
from tests.core.toy import Engine
from tests.core.world import World
from tests.hpa import Hpa

P, D = Role.PREFILL, Role.DECODE
ORIGIN = "pod"


def spec(**changes: Any) -> ServiceSpec:
    """Return a service that others scale."""
    given = {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 6, "target": 5000},
            "decode": {"template": "decode", "min": 2, "max": 12, "target": 1000},
        },
        "ratio": "1:2",
        "policy": PLAIN,
        "actuation": {"by": "external", "follow_within": 120.0},
    }
    return ServiceSpec.model_validate(given | changes)


@dataclass
class Cluster:
    """Two sets of replicas on nodes with agents, each with an HPA that reads our counts."""

    world: World
    hpas: dict[Role, Hpa] = field(
        default_factory=lambda: {role: Hpa(tolerance=0.0) for role in (P, D)}
    )
    _names: Any = field(default_factory=count)

    @property
    def asked(self) -> ExternalMemory:
        """What is asked for."""
        return self.world.state.services["chat"].memory.external

    def pods(self, role: Role) -> list[tuple[str, str]]:
        """Return (agent, name) of the replicas of a role, the oldest first."""
        found = [
            (agent.agent_id, name)
            for agent in self.world.agents.values()
            for name, engine in agent.engines.items()
            if engine.fact.role is role
        ]
        return sorted(found, key=lambda pair: int(pair[1].rpartition("-")[2]))

    def start(self, role: Role, number: int = 1, *, ready: bool = False) -> None:
        """Start replicas, spread over the nodes."""
        for _ in range(number):
            serial = next(self._names)
            agent = list(self.world.agents.values())[serial % len(self.world.agents)]
            name = f"{role}-{serial}"
            fact = RankFact(name, "chat", role, S.LAUNCHING, 1, origin=ORIGIN)
            ready_at = self.world.now + (0.0 if ready else self.world.startup)
            agent.engines[name] = Engine(fact, ready_at, self.world.now)
            self.world._become(agent, agent.engines[name], S.LAUNCHING)

    def stop(self, role: Role, number: int = 1) -> None:
        """Stop the newest replicas."""
        for agent_id, name in self.pods(role)[-number:]:
            agent = self.world.agents[agent_id]
            self.world._become(agent, agent.engines.pop(name), S.TERMINATED)

    def follow(self) -> None:
        """Do what the HPAs would do now."""
        for role, hpa in self.hpas.items():
            replicas = len(self.pods(role))
            wanted = hpa.desired(replicas, self.asked.counts.get(role))
            if wanted > replicas:
                self.start(role, wanted - replicas)
            elif wanted < replicas:
                self.stop(role, replicas - wanted)

    def run(self, seconds: float, every: float = 15.0) -> None:
        """Let time pass, with the HPAs looking every so often."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.run(min(every, end - self.world.now))
            self.follow()

    @property
    def replicas(self) -> dict[Role, int]:
        """Return the counts that stand."""
        return {role: len(self.pods(role)) for role in (P, D)}


def busy(decode: int) -> float:
    """Return the requests a second that keep so many decode instances near their targets."""
    return decode * 0.95 * 1000 / 200


def laid_over(prefill: int, decode: int, service: ServiceSpec | None = None) -> Cluster:
    """Return a cluster with running replicas, over which the service was just laid."""
    world = World()
    for index in range(4):
        world.join(f"n{index}", {"s1": "pod"}, ["H20"] * 8)
    cluster = Cluster(world)
    cluster.start(P, prefill, ready=True)
    cluster.start(D, decode, ready=True)
    world.run(5)
    # Short prompts, so that prefill in the ratio is never the narrow place.
    world.traffic.arrivals, world.traffic.prompt = busy(decode), 400.0
    world.send(ApplyService("apply", "chat", service or spec(), ""))
    return cluster


def settled(prefill: int, decode: int, service: ServiceSpec | None = None) -> Cluster:
    """Return a cluster whose counts are asked for."""
    cluster = laid_over(prefill, decode, service)
    cluster.run(90)
    assert cluster.asked.counts == {P: prefill, D: decode}
    return cluster
