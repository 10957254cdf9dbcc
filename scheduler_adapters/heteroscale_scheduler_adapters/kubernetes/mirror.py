"""All that was read of a cluster, and what of it changes with each event.

Folding one event costs as much as its node, its instance and its object have pods, not as the cluster
has. What is neither a node with GPUs nor a pod that holds some or serves is not kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from heteroscale_scheduler_adapters.kubernetes.budgets import (
    Budget,
    budget,
    kept_by,
    limit_of,
    quotas,
)
from heteroscale_scheduler_adapters.kubernetes.instances import running
from heteroscale_scheduler_adapters.kubernetes.nodes import SeenNode, seen_node, with_holdings
from heteroscale_scheduler_adapters.kubernetes.objects import name, namespace
from heteroscale_scheduler_adapters.kubernetes.pods import SeenPod, seen_pod
from heteroscale_scheduler_adapters.kubernetes.reached import Reached
from heteroscale_scheduler_adapters.kubernetes.resources import (
    BUDGETS,
    NODES,
    PODS,
    QUOTAS,
    SLICES,
    Object,
    Resource,
)
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.kubernetes.siblings import Siblings
from heteroscale_scheduler_adapters.port import Holding, Node, Quota, Running, Turn

_T = TypeVar("_T")
Clock = Callable[[], float]
"""Seconds since 1970."""


@dataclass(slots=True)
class Touched:
    """What an event may have changed."""

    nodes: set[str] = field(default_factory=set)
    units: set[str] = field(default_factory=set)
    notes: bool = False


class Mirror:
    """See the module. `put` and `drop` take objects in; `fold` says what has become different."""

    def __init__(
        self,
        settings: KubernetesSettings,
        cluster: str,
        clock: Clock,
        handed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``handed``: uids of pods whose object was handed over, and by which template."""
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._handed = handed
        self.revisions: dict[str, str] = {}
        """By source."""
        self.nodes: dict[str, Node] = {}
        self.running: dict[str, Running] = {}
        self._seen: dict[str, SeenNode] = {}
        self._pods: dict[str, SeenPod] = {}
        self._on_node: defaultdict[str, dict[str, SeenPod]] = defaultdict(dict)
        self._of_unit: defaultdict[str, dict[str, SeenPod]] = defaultdict(dict)
        self._siblings = Siblings()
        self._loose: set[str] = set()
        self._reached = Reached()
        self._services = {
            one.name: rule.service
            for one in settings.templates
            if (rule := one.gate or settings.gate).service
        }
        self._told: dict[str, str] = {}
        """Unit to the instance id that it was last told by."""
        self._budgets: defaultdict[str, dict[str, Budget]] = defaultdict(dict)
        self._limits: dict[str, int] = {}
        self._touched = Touched(notes=True)

    # ---- taking in ---------------------------------------------------------------------------------

    def put(self, resource: Resource, thing: Object) -> None:
        """Take in an object that came or changed."""
        key = _key(thing)
        if resource is PODS:
            seen = seen_pod(thing, self._settings, self._cluster, self._clock(), self._handed)
            self._put_pod(key, seen, thing)
        elif resource is NODES:
            self._put_node(name(thing), seen_node(thing, self._settings))
        elif resource is BUDGETS:
            self._budgets[namespace(thing)][key] = budget(thing)
            self._touch_namespace(namespace(thing))
        elif resource is QUOTAS:
            limit = limit_of(thing, self._settings.gpus.resources)
            if limit is not None:
                self._limits[key] = limit
            else:
                self._limits.pop(key, None)
        elif resource is SLICES:
            self._touch_pods(self._reached.put(thing))

    def drop(self, resource: Resource, thing: Object) -> None:
        """Take out an object that is gone."""
        key = _key(thing)
        if resource is PODS:
            self._put_pod(key, None, thing)
        elif resource is NODES:
            self._put_node(name(thing), None)
        elif resource is BUDGETS:
            self._budgets[namespace(thing)].pop(key, None)
            self._touch_namespace(namespace(thing))
        elif resource is QUOTAS:
            self._limits.pop(key, None)
        elif resource is SLICES:
            self._touch_pods(self._reached.drop(thing))

    def _put_pod(self, key: str, pod: SeenPod | None, thing: Object) -> None:
        old = self._pods.pop(key, None)
        if old is not None:
            self._forget(old)
        if pod is not None:
            self._pods[key] = pod
            if pod.node:
                self._on_node[pod.node][key] = pod
                self._touched.nodes.add(pod.node)
            if pod.member is not None:
                self._of_unit[pod.member.unit][key] = pod
                self._touched.units.add(pod.member.unit)
            if pod.owner:
                self._touch_pods(self._siblings.put(pod.owner, key, thing))
            if pod.loose:
                self._loose.add(key)

    def _touch_pods(self, keys: Iterable[str]) -> None:
        for key in keys:
            pod = self._pods.get(key)
            if pod is not None and pod.member is not None:
                self._touched.units.add(pod.member.unit)

    def _forget(self, pod: SeenPod) -> None:
        self._loose.discard(pod.key)
        if pod.owner:
            self._touch_pods(self._siblings.drop(pod.owner, pod.key))
        if pod.node:
            _take_out(self._on_node, pod.node, pod.key)
            self._touched.nodes.add(pod.node)
        if pod.member is not None:
            _take_out(self._of_unit, pod.member.unit, pod.key)
            self._touched.units.add(pod.member.unit)

    def _put_node(self, title: str, seen: SeenNode | None) -> None:
        old = self._seen.pop(title, None)
        if seen is not None:
            self._seen[title] = seen
        self._touched.nodes.add(title)
        if (old.notes if old else ()) != (seen.notes if seen else ()):
            self._touched.notes = True

    def _touch_namespace(self, space: str) -> None:
        for unit, pods in self._of_unit.items():
            if any(pod.namespace == space for pod in pods.values()):
                self._touched.units.add(unit)

    # ---- folding -----------------------------------------------------------------------------------

    def fold(self) -> tuple[dict[str, Node | None], dict[str, Running | None]]:
        """Bring ``nodes`` and ``running`` up to date, and return what is different in them."""
        touched, self._touched = self._touched, Touched()
        instances = self._fold_units(touched)
        nodes: dict[str, Node | None] = {}
        for title in touched.nodes:
            node = self._node(title)
            if node != self.nodes.get(title):
                nodes[title] = node
                _set(self.nodes, title, node)
        changed = {key: value for key, value in instances.items() if value != self.running.get(key)}
        for key, value in changed.items():
            _set(self.running, key, value)
        return nodes, changed

    def _fold_units(self, touched: Touched) -> dict[str, Running | None]:
        before = {unit: self._told.pop(unit, "") for unit in touched.units}
        found: dict[str, Running | None] = {old: None for old in before.values() if old}
        for unit, old in before.items():
            one = self._running(unit)
            if one is None:
                continue
            self._told[unit] = one.instance_id
            found[one.instance_id] = one
            if one.instance_id != old:
                touched.nodes |= {pod.node for pod in self._of_unit[unit].values() if pod.node}
        return found

    def _running(self, unit: str) -> Running | None:
        pods = list(self._of_unit.get(unit, {}).values())
        ready = [pod for pod in pods if pod.ready]
        budgets = self._budgets.get(ready[0].namespace, {}).values() if ready else ()
        why, turn = self._by_object(pods)
        one = running(pods, kept_by(ready, budgets) or why, turn)
        service = self._services.get(one.template, "") if one is not None else ""
        if one is None or not service:
            return one
        return replace(one, gate_seen=self._sends(service, pods))

    def _sends(self, service: str, pods: Iterable[SeenPod]) -> bool | None:
        """Return whether a Service sends to the first rank of an instance; None: nobody knows."""
        for pod in pods:
            if pod.member is not None and pod.member.rank == 0:
                return self._reached.sends(f"{pod.namespace}/{service}", pod.key)
        return False

    def _by_object(self, pods: Iterable[SeenPod]) -> tuple[str, Turn | None]:
        """Return why an instance's object would end another first, in words, and its turn."""
        for pod in pods:
            if pod.owner and pod.member is not None:
                why = self._siblings.kept(pod.owner, pod.member.instance_id)
                return why, self._siblings.turn(pod.owner, pod.key)
        return "", None

    def _node(self, title: str) -> Node | None:
        seen = self._seen.get(title)
        if seen is None:
            return None
        holdings = tuple(
            Holding(f"pod/{pod.key}", pod.gpus, instance_id=self._instance(pod))
            for _, pod in sorted(self._on_node.get(title, {}).items())
            if pod.gpus
        )
        if not holdings and not seen.known:
            return None  # no GPUs: no node of ours
        return with_holdings(seen, holdings)

    def _instance(self, pod: SeenPod) -> str:
        return "" if pod.member is None else self._told.get(pod.member.unit, "")

    # ---- told with them ----------------------------------------------------------------------------

    @property
    def loose(self) -> bool:
        """Whether pods of ours wait at our gate until somebody sees to them."""
        return bool(self._loose)

    @property
    def notes_touched(self) -> bool:
        """Whether what is told in notes may be different, as what came since the last `fold` says."""
        return self._touched.notes

    def node_notes(self) -> tuple[str, ...]:
        """Return what an operator should know of the nodes' GPUs."""
        return tuple(note for _, seen in sorted(self._seen.items()) for note in seen.notes)

    def quotas(self, spaces: Iterable[str]) -> tuple[Quota, ...]:
        """Return what may be held in all, by the quotas of these namespaces."""
        limits: defaultdict[str, list[int]] = defaultdict(list)
        for key, limit in self._limits.items():
            limits[key.partition("/")[0]].append(limit)
        foreign: defaultdict[str, int] = defaultdict(int)
        for pod in self._pods.values():
            if pod.member is None or pod.member.origin:
                foreign[pod.namespace] += pod.gpus
        return quotas(limits, spaces, foreign)

    def pods_of(self, instance_id: str) -> tuple[SeenPod, ...]:
        """Return the pods of an instance, by rank."""
        found = [
            pod
            for unit, told in self._told.items()
            if told == instance_id
            for pod in self._of_unit.get(unit, {}).values()
        ]
        return tuple(sorted(found, key=lambda pod: pod.member.rank if pod.member else 0))


def _key(thing: Object) -> str:
    space = namespace(thing)
    return f"{space}/{name(thing)}" if space else name(thing)


def _take_out(table: dict[str, dict[str, SeenPod]], group: str, key: str) -> None:
    table[group].pop(key, None)
    if not table[group]:
        del table[group]


def _set(table: dict[str, _T], key: str, value: _T | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
