"""Between the port's values and the core's: nodes, phases, wishes, steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from heteroscale.taints import Taints, parse_taint
from heteroscale.words import TOPOLOGY_LEVELS, GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.events import NodeTold
from heteroscale_coordinator.core.holdings import Held
from heteroscale_coordinator.core.model import Command, Instance, Inventory, TemplateFact
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_scheduler_adapters import port
from heteroscale_scheduler_adapters.port import GateWish, Phase, Spot

S = InstanceState
DRAINING = "draining"
LEASED = frozenset({WithdrawReason.SOFT_SCALE_IN, WithdrawReason.RATIO_HOLD})
_LEAVING = {
    Phase.STOPPING: S.DRAINING,
    Phase.ENDED: S.TERMINATED,
    Phase.FAILED: S.FAILED,
}
_NEAREST_FIRST = ("s1", "s2", "logical_cluster", "vdc")


# ---- nodes -------------------------------------------------------------------------------------


def inventory(cluster: str, node: port.Node, templates: Iterable[port.Template]) -> Inventory:
    """Return a node's slow facts. Its physical cluster is the adapter's name."""
    levels = {
        name: text for name, text in node.topology.items() if name in TOPOLOGY_LEVELS and text
    }
    return Inventory(
        gpus=tuple(GpuFact(gpu.index, gpu.type, vendor=gpu.vendor) for gpu in node.gpus),
        topology={**levels, "physical_cluster": cluster},
        templates=tuple(_templates(templates)),
        labels=dict(node.labels),
        topology_sources={**node.topology_sources, "physical_cluster": f"adapter {cluster}"},
        taints=_taints(node.taints),
    )


def _templates(told: Iterable[port.Template]) -> Iterable[TemplateFact]:
    for one in told:
        with suppress(ValueError):
            yield TemplateFact(one.name, Role(one.role), one.gpus, one.engine)


def _taints(told: Iterable[port.Taint]) -> Taints:
    found = []
    for one in told:
        value = f"={one.value}" if one.value else ""
        with suppress(ValueError):
            found.append(parse_taint(f"{one.key}{value}:{one.effect}"))
    return tuple(dict.fromkeys(found))


def node_told(agent_id: str, node: port.Node) -> NodeTold:
    """Return what the scheduler says of a node beside its slow facts."""
    held = (Held(h.holder, h.gpus, h.indices, h.instance_id) for h in node.holdings if h.gpus > 0)
    return NodeTold(agent_id, tuple(sorted(held)), node.closed)


# ---- instances ---------------------------------------------------------------------------------


def state_of(phase: Phase, wish: GateWish, seen: bool | None, *, was_ready: bool) -> InstanceState:
    """Return an instance's state. One that was ready before and is not now only lost its traffic."""
    ready = phase is Phase.READY
    if ready or phase in (Phase.QUEUED, Phase.STARTING):
        if not (ready or was_ready):
            return S.LAUNCHING
        if not wish.open:
            return _out(wish)
        return S.IN_SERVICE if ready and seen is not False else S.WARMING
    return _LEAVING[phase]


def _out(wish: GateWish) -> InstanceState:
    return S.DRAINING if wish.reason == DRAINING else S.WITHDRAWN


def reason_of(wish: GateWish) -> WithdrawReason | None:
    """Return why it is withdrawn. Words that are none of ours are an operator's."""
    if wish.open or wish.reason == DRAINING:
        return None
    try:
        return WithdrawReason(wish.reason)
    except ValueError:
        return WithdrawReason.OPERATOR


def gate_state(wish: GateWish, seen: bool | None) -> GateState:
    """Return what is known of its gate."""
    if wish.open:
        return GateState.OPENING if seen is False else GateState.OPEN
    return GateState.CLOSING if seen else GateState.CLOSED


# ---- steps -------------------------------------------------------------------------------------


def request_id(cluster: str, cause: str, commands: Iterable[Command]) -> str:
    """Return the id of a step: the same for the same orders, also after a restart.

    As random as the ids of its orders are.
    """
    text = "\n".join([cluster, cause, *sorted(one.command_id for one in commands)])
    return sha256(text.encode()).hexdigest()[:20]


def launch(
    prefix: str,
    instance: Instance,
    spec: ServiceSpec,
    order: Command,
    domain: str,
) -> port.Launch | None:
    """Return the launch of an instance; None: it is not all in this cluster, or has no such role."""
    role = spec.roles.get(instance.role)
    if role is None or any(not rank.agent_id.startswith(prefix) for rank in instance.ranks):
        return None
    held = order.reason is WithdrawReason.RATIO_HOLD and order.lease is not None
    gate = GateWish(open=True)
    if held:
        gate = GateWish(False, WithdrawReason.RATIO_HOLD, order.created_at + (order.lease or 0.0))
    return port.Launch(
        instance_id=instance.instance_id,
        service=instance.service,
        role=instance.role.value,
        template=instance.template or role.template,
        ranks=tuple(Spot(r.agent_id.removeprefix(prefix), r.gpu_indices) for r in instance.ranks),
        gpus=len(instance.ranks[0].gpu_indices) or role.gpus,
        group=instance.group,
        domain=domain,
        parameters=role.parameters,
        startup_timeout=role.startup_timeout,
        gate=gate,
    )


def domain_of(nodes: Sequence[Mapping[str, str]]) -> str:
    """Return the nearest domain that all share, as ``level/name``; empty: they share none."""
    for level in _NEAREST_FIRST:
        names = {levels.get(level, "") for levels in nodes}
        if len(names) == 1 and (name := next(iter(names))):
            return f"{level}/{name}"
    return ""
