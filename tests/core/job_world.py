"""A cluster whose instances are jobs, in virtual time: nodes take orders, agents within jobs tell."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.documents import read_documents
from heteroscale.words import InstanceState as S
from heteroscale.words import Outcome, Role
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    ApplyService,
    CommandAnswered,
    InventoryLearned,
    RankChanged,
)
from heteroscale_coordinator.core.model import (
    Command,
    Instance,
    Inventory,
    RankFact,
    StandsFor,
    Verb,
)
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.toy import TwinAgent
from tests.core.world import World

SPEC = """
roles:
  prefill: {template: prefill, gpuTypes: [H20], min: 1, max: 4, target: 5000}
  decode: {template: decode, gpuTypes: [H20], min: 2, max: 8, target: 1000, ranks: RANKS}
ratio: "1:2"
"""


class JobWorld(World):
    """Nodes `east/n0` … whose launches become jobs; a test lets the agents of these come."""

    def __init__(self, nodes: int = 4, *, ranks: int = 1) -> None:
        super().__init__()
        for number in range(nodes):
            levels = {"s1": f"leaf-{number // 2}", "physical_cluster": "east"}
            self.join(f"east/n{number}", levels, ["H20"] * 4)
        document = SPEC.replace("RANKS", str(ranks))
        spec = ServiceSpec.model_validate(read_documents(document)[0].data)
        self.send(ApplyService("r", "chat", spec, document))
        self.run(10)

    def _obey(self, command: Command) -> None:
        if "/" not in command.agent_id or command.verb is not Verb.LAUNCH:
            if command.agent_id in self.agents:
                super()._obey(command)
            return
        self.send(CommandAnswered(command.agent_id, command.command_id, Outcome.DONE, "a job"))
        rank = self.state.instances[command.instance_id].ranks[command.rank]
        self.tell(command.instance_id, S.LAUNCHING, rank=command.rank, gpus=rank.gpu_indices)

    def tell(
        self,
        instance_id: str,
        state: S,
        *,
        node: str = "",
        rank: int = 0,
        gpus: tuple[int, ...] = (),
        message: str = "",
    ) -> None:
        """The scheduler says how a job is, by its node."""
        one = self.state.instances[instance_id]
        fact = RankFact(
            instance_id, "chat", one.role, state, 1, rank, len(one.ranks), gpu_indices=gpus
        )
        node = node or one.ranks[rank].agent_id
        self.send(RankChanged(node, replace(fact, message=message)))

    def jobs(self, role: Role = Role.DECODE) -> list[Instance]:
        """Return the instances of a role that are live, by id."""
        found = [i for i in self.state.instances.values() if i.role is role]
        return sorted(
            (i for i in found if i.state not in (S.FAILED, S.TERMINATED)),
            key=lambda one: one.instance_id,
        )

    def comes(
        self,
        instance_id: str,
        agent_id: str = "",
        *,
        rank: int = 0,
        within: str = "",
        incarnation: int = 1,
        facts: tuple[RankFact, ...] = (),
        incapable: bool = False,
    ) -> TwinAgent:
        """The agent within a job says hello for the rank that it is there for."""
        one = self.state.instances.get(instance_id)
        within = within or (one.ranks[rank].agent_id if one is not None else "east/n0")
        agent_id = agent_id or f"east.job-{instance_id}-{rank}"
        inventory = Inventory(hash=agent_id, gpus=(GpuFact(0, "H20"),))
        agent = TwinAgent(agent_id, inventory, incarnation=incarnation)
        agent.silent = incapable
        self.agents[agent_id] = agent
        claim = StandsFor(instance_id, rank, within)
        self.send(AgentConnected(agent_id, incarnation, within, facts, stands_for=claim))
        self.send(InventoryLearned(agent_id, inventory))
        return agent

    def goes(self, agent: TwinAgent) -> None:
        """The process of an agent within a job ends."""
        del self.agents[agent.agent_id]
        self.send(AgentDisconnected(agent.agent_id, agent.incarnation, "it ended"))

    def all_come(self) -> None:
        """The agents of all jobs come, and their engines are up."""
        for role in (Role.PREFILL, Role.DECODE):
            for one in self.jobs(role):
                for rank in range(len(one.ranks)):
                    self.comes(one.instance_id, rank=rank)
        self.run(60)

    def orders(self, agent_id: str, *verbs: Verb) -> list[Command]:
        """Return what an agent was told, in order."""
        return [c for c in self.commands if c.agent_id == agent_id and c.verb in (verbs or Verb)]
