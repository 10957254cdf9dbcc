"""What is seen of one cluster, and how the core hears it: each node as an agent, each rank as a fact.

What was ordered and taken is shown as done before the cluster shows it, for a while: else the core would
order it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import structlog

from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    AgentEvent,
    ClusterEvent,
    ClusterTold,
    InventoryLearned,
    NodeGone,
    NodeTold,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import CommandState, Instance, Inventory, RankFact, Verb
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.adapters import translate
from heteroscale_coordinator.edge.adapters.caller import Caller
from heteroscale_coordinator.edge.adapters.drains import Drain
from heteroscale_coordinator.edge.adapters.facts import Facts
from heteroscale_coordinator.edge.adapters.mirror import OVER, Mirror
from heteroscale_coordinator.edge.adapters.pace import Pace
from heteroscale_coordinator.edge.ports import Leader
from heteroscale_scheduler_adapters.port import (
    Adapter,
    Change,
    GateWish,
    Phase,
    Running,
    Step,
    World,
)

log = structlog.get_logger("heteroscale.adapters")

_PROCESS = 1
"""The incarnation of every node: its engines go on counting while a driver ends and another begins."""


class Sight:
    """See the module."""

    def __init__(
        self, name: str, adapter: Adapter, loop: Leader, pace: Pace, caller: Caller
    ) -> None:
        self.name, self.prefix = name, f"{name}/"
        self.adapter, self.pace, self.caller = adapter, pace, caller
        self.mirror = Mirror()
        self.drains: dict[str, Drain] = {}
        self.given_up: dict[str, str] = {}
        """Instances that never got ready, and why they are told as failed from now on."""
        self._loop = loop
        self.facts = Facts(self.prefix, lambda: loop.state)
        self._launched: dict[str, tuple[Running, float]] = {}
        self._gated: dict[str, tuple[GateWish, float]] = {}
        self._stopped: dict[str, float] = {}
        self._connected: set[str] = set()
        self._inventories: dict[str, Inventory] = {}
        self._told: dict[str, NodeTold] = {}
        self._cluster = ClusterTold(name)
        self._sequence = 0

    @property
    def state(self) -> State:
        """What the core holds. Read only."""
        return self._loop.state

    def now(self) -> float:
        """Return the coordinator's time."""
        return self._loop.now()

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should see of the cluster."""
        return self._cluster.notes

    def put(self, event: AgentEvent | ClusterEvent) -> None:
        """Tell the core something.

        At once, room or no room: what a look found is told whole, or a part of it would be lost with a
        call that is given up. Its size is bounded by the cluster's.
        """
        self._loop.mailbox.put_now(event)

    # ---- what was done ---------------------------------------------------------------------------

    def launched(self, step: Step) -> None:
        """Note that a step was taken."""
        for one in step.launches:
            ranks = tuple(replace(spot, gpu_indices=()) for spot in one.ranks)
            running = Running(
                one.instance_id,
                one.service,
                one.role,
                Phase.QUEUED,
                ranks,
                one.gate,
                group=one.group,
                template=one.template,
                request_id=step.request_id,
            )
            self._launched[one.instance_id] = running, self.now()

    def gated(self, instance_id: str, wish: GateWish) -> None:
        """Note that a gate was set."""
        self._gated[instance_id] = wish, self.now()
        drain = self.drains.get(instance_id)
        if drain is not None and (wish.open or wish.reason != translate.DRAINING):
            del self.drains[instance_id]

    def stopped(self, instance_id: str) -> None:
        """Note that a stop was taken."""
        self._stopped[instance_id] = self.now()
        self.drains.pop(instance_id, None)

    def as_ordered(self, instance_id: str) -> Running | None:
        """Return an instance as the cluster has it, with what was ordered since; None: there is none."""
        one, now = self.mirror.running.get(instance_id), self.now()
        if one is None:
            launched = self._launched.get(instance_id)
            if launched is None:
                return None
            one = launched[0]
        if why := self.given_up.get(instance_id):
            return replace(one, phase=Phase.FAILED, message=why)
        own = self.adapter.capabilities.own_agents
        if own and one.phase is Phase.READY and not self.facts.elsewhere(instance_id):
            one = replace(
                one, phase=Phase.STARTING
            )  # only its agent knows whether its engine serves
        wish = self._gated.get(instance_id)
        if wish is not None and now - wish[1] <= self.pace.echo:
            one = replace(one, gate=wish[0])
        stopped = self._stopped.get(instance_id)
        if stopped is not None and one.phase not in OVER and now - stopped <= self.pace.echo:
            one = replace(one, phase=Phase.STOPPING)
        return one

    def everyone(self) -> Iterator[Running]:
        """Yield all instances, with what was ordered."""
        for instance_id in {**self._launched, **self.mirror.running}:
            if (one := self.as_ordered(instance_id)) is not None:
                yield one

    def unsettled(self) -> set[str]:
        """Return the instances whose facts may change by time alone."""
        return {*self._launched, *self._gated, *self._stopped, *self.drains}

    # ---- told ------------------------------------------------------------------------------------

    def look(self, world: World) -> None:
        """Take a whole look over, and tell everything that is different from what the core holds."""
        self.mirror.take(world)
        self._settle()
        self._show_nodes(self.mirror.nodes)
        self.show()
        for name in sorted(self.mirror.nodes.keys() - self._connected):
            self._hello(name)
        self._forget_nodes()
        self._reconcile()
        self.tell_cluster()

    def change(self, change: Change) -> None:
        """Take over what a watch tells."""
        self.mirror.change(change)
        self._settle()
        self._show_nodes(change.nodes)
        self.show(only=change.running)
        for name in sorted(change.nodes.keys() & self.mirror.nodes.keys() - self._connected):
            self._hello(name)
        self._forget_nodes()
        if any(one is None for one in change.running.values()):
            self._reconcile()
        if change.notes is not None:
            self.tell_cluster()

    def show(self, *, cause: str = "", only: Collection[str] | None = None) -> None:
        """Tell the facts that are news, of all instances or ``only`` these."""
        nowhere = set()
        for agent_id, fact, news in self._facts(only):
            if news:
                self.put(RankChanged(agent_id, fact, cause))
                if agent_id.removeprefix(self.prefix) not in self.mirror.nodes:
                    nowhere.add(agent_id)
        for agent_id in sorted(nowhere):
            self.put(NodeGone(agent_id))  # its last word is no sign of life

    def beat(self) -> None:
        """Let every node be heard."""
        self._sequence += 1
        now = self.now()
        for name in self._connected:
            self._loop.mailbox.report(
                ReportReceived(f"{self.prefix}{name}", _PROCESS, self._sequence, received_at=now)
            )

    def lose(self, why: str) -> None:
        """Tell that the cluster cannot be reached: no node of it takes anything new."""
        for name in sorted(self._connected):
            self.put(AgentDisconnected(f"{self.prefix}{name}", _PROCESS, why))
        self._connected.clear()

    def greet(self, agent_id: str) -> None:
        """Tell all of a node again: the core has forgotten it."""
        name = agent_id.removeprefix(self.prefix)
        if name in self._connected:
            self._inventories.pop(name, None)
            self._told.pop(name, None)
            self._show_nodes([name])
            self._hello(name)

    def recall(self, inventories: dict[str, Inventory]) -> None:
        """Tell what is stored of nodes on which instances stand: how many there are, and where."""
        used = {rank.agent_id for one in self.state.instances.values() for rank in one.ranks}
        for agent_id in sorted(used & inventories.keys()):
            if agent_id.startswith(self.prefix):
                self.put(InventoryLearned(agent_id, inventories[agent_id]))

    def tell_cluster(self, trouble: str = "") -> None:
        """Tell quotas, notes and troubles, if they are others than before."""
        quotas: dict[str, int] = {}
        for one in self.mirror.world.quotas:
            quotas[one.gpu_type] = min(one.limit, quotas.get(one.gpu_type, one.limit))
        notes = (*self.mirror.notes, *self._orphans())
        for note in notes:
            if note not in self._cluster.notes:
                log.warning("note of a cluster", cluster=self.name, note=note)
        before = self._cluster
        turned = not before.since or bool(trouble) is not bool(before.trouble)
        since = self.now() if turned else before.since
        told = ClusterTold(self.name, quotas, notes, trouble, since)
        if told != self._cluster:
            self._cluster = told
            self.put(told)

    # ---- nodes -----------------------------------------------------------------------------------

    def _show_nodes(self, names: Collection[str]) -> None:
        templates = self.mirror.world.templates
        for name in sorted(names):
            node = self.mirror.nodes.get(name)
            if node is None:
                continue
            agent_id = f"{self.prefix}{name}"
            inventory = translate.inventory(self.name, node, templates)
            if self._inventories.get(name) != inventory:
                self._inventories[name] = inventory
                self.put(InventoryLearned(agent_id, inventory))
            told = translate.node_told(agent_id, node)
            if self._told.get(name) != told:
                self._told[name] = told
                self.put(told)

    def _hello(self, name: str) -> None:
        agent_id, node = f"{self.prefix}{name}", self.mirror.nodes[name]
        facts = tuple(fact for at, fact, _ in self._facts(None) if at == agent_id)
        self._connected.add(name)
        self.put(
            AgentConnected(
                agent_id,
                _PROCESS,
                name,
                facts,
                version=f"adapter {self.name}",
                advertise_host=node.address,
            )
        )

    def _forget_nodes(self) -> None:
        for name in sorted(self._inventories.keys() - self.mirror.nodes.keys()):
            self._connected.discard(name)
            self._inventories.pop(name)
            self._told.pop(name, None)
            self.put(NodeGone(f"{self.prefix}{name}"))

    # ---- instances -------------------------------------------------------------------------------

    def _facts(self, only: Collection[str] | None) -> Iterator[tuple[str, RankFact, bool]]:
        now, nodes = self.now(), self.mirror.nodes
        every = self.everyone() if only is None else map(self.as_ordered, sorted(only))
        for one in every:
            if one is not None:
                drain = self.drains.get(one.instance_id)
                yield from self.facts.of(one, nodes, now, drain.message if drain else "")

    def _settle(self) -> None:
        """Let go of what was ordered where the cluster shows it, or has had time enough to."""
        now, running, echo = self.now(), self.mirror.running, self.pace.echo
        for key, (_, at) in tuple(self._launched.items()):
            if key in running or now - at > echo:
                del self._launched[key]
        for key, (wish, at) in tuple(self._gated.items()):
            one = running.get(key)
            if one is None or one.gate == wish or now - at > echo:
                del self._gated[key]
        for key, at in tuple(self._stopped.items()):
            one = running.get(key)
            if one is None or one.phase in (Phase.STOPPING, *OVER) or now - at > echo:
                del self._stopped[key]
        for key in (self.given_up.keys() | self.drains.keys()) - running.keys():
            self.given_up.pop(key, None)
            self.drains.pop(key, None)

    def _reconcile(self) -> None:
        """Have the core look at nodes on which it believes an instance that is not there."""
        wrong = set()
        for instance in self.state.instances.values():
            key = instance.instance_id
            if instance.state in life.ENDED or key in self.mirror.running or key in self._launched:
                continue
            ours = {r.agent_id for r in instance.ranks if r.state not in life.ENDED}
            mine = {agent_id for agent_id in ours if agent_id.startswith(self.prefix)}
            if mine and not self._coming(instance):
                wrong |= mine
                self.facts.forget(key)
        for agent_id in sorted(wrong):
            name = agent_id.removeprefix(self.prefix)
            if name in self.mirror.nodes:
                self._hello(name)
            else:
                self.put(NodeGone(agent_id))

    def _coming(self, instance: Instance) -> bool:
        """Return whether an order to launch it is still to be carried out."""
        commands = map(
            self.state.commands.get, self.state.open_commands.get(instance.instance_id, ())
        )
        return any(
            one is not None and one.verb is Verb.LAUNCH and one.state is CommandState.OPEN
            for one in commands
        )

    def _orphans(self) -> Iterator[str]:
        known = self.state.services
        for key, one in sorted(self.mirror.running.items()):
            if one.service not in known and one.phase not in OVER:
                who = one.origin or "launched by a coordinator"
                called = f" ({one.names[0]})" if one.names else ""
                yield f"orphan {key}{called}: no service {one.service!r} is known here; {who}"
