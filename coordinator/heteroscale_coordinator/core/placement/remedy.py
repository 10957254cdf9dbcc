"""Remedy: what would make a step feasible that has no place as things are.

Each remedy is tried by placing the step again, so that what is said is true and not a guess. From the
cheapest to a person to the dearest: a smaller step, a wider domain, more GPU types, nodes opened again,
GPUs that others hold, new nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.kind import intolerable
from heteroscale_coordinator.core.placement.plan import might_fit, most_units
from heteroscale_coordinator.core.placement.values import Ask, NodeView, Placed, Standing
from heteroscale_coordinator.core.placement.view import FleetView
from heteroscale_coordinator.core.spec import RoleSpec, Toleration
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, Tree

SAID = 3
"""Nodes named in one remedy; of the rest only their number is told."""
MOST_NODES = 4096
"""New nodes that are thought of at most."""
LARGE = 1_000_000
"""Instances × nodes of a step beyond which not the best of a remedy is looked for, but a good one."""
_FEW_NODES = 1000
"""On fewer a step takes no less time: its instances count."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that gives the whole step a place, or the part of it that has one."""

    kind: str
    """`smaller`, `wider`, `rule`, `taint`, `types`, `open`, `template`, `freed` or `nodes`."""
    text: str
    """In words, with the field to change where it is one."""


def remedies(ask: Ask, fleet: FleetView, standing: Sequence[Standing]) -> tuple[Remedy, ...]:
    """Return what would help an ask that is infeasible, each on its own; nothing: nothing known does.

    Arguments as for ``FleetView.place``. The view is changed for a while, and is as it was at the end.
    Costs some tens of placements, so it is for people who ask, not for a turn.
    """
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if not counts or not counts.keys() <= ask.roles.keys():
        return ()
    trial = _Trial(replace(ask, delta=counts), fleet, list(fleet), standing)
    return (
        *trial.smaller(),
        *trial.wider(),
        *trial.other_rules(),
        *trial.tolerated(),
        *trial.sub_clusters(),
        *trial.more_types(),
        *trial.opened(),
        *trial.templates(),
        *trial.freed(),
        *trial.more_nodes(),
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    ask: Ask
    fleet: FleetView
    nodes: Sequence[NodeView]
    standing: Sequence[Standing]

    def _fits(self, ask: Ask, changed: Sequence[NodeView] = ()) -> bool:
        """Whether the ask has a place with some nodes changed, or with new ones."""
        ids = {node.agent_id for node in changed}
        before = [node for node in self.nodes if node.agent_id in ids]
        new = ids - {node.agent_id for node in before}
        try:
            for node in changed:
                self.fleet.put(node)
            hopeful = might_fit(self.fleet, ask)
            return hopeful and isinstance(self.fleet.place(ask, self.standing), Placed)
        finally:
            for node in before:
                self.fleet.put(node)
            for agent_id in new:
                self.fleet.remove(agent_id)

    @property
    def _large(self) -> bool:
        return sum(self.ask.delta.values()) * max(len(self.nodes), _FEW_NODES) > LARGE

    def smaller(self) -> Iterator[Remedy]:
        """Yield the largest part of the step that fits, with its roles in proportion.

        Of a large step as many balanced units as find a place one after the other, where that holds.
        """
        counts = self.ask.delta
        most = max(counts.values(), default=0)

        def hopeful(part: int) -> bool:
            return might_fit(self.fleet, replace(self.ask, delta=_part(counts, part)))

        def fits(part: int) -> bool:
            return self._fits(replace(self.ask, delta=_part(counts, part)))

        bound = _largest(most - 1, hopeful)
        if self._large and bound:
            ask = replace(self.ask, delta=_part(counts, bound))
            units, of = most_units(self.fleet, ask, self.standing)
            parts = (bound * units * k // (of * 8) for k in (8, 7, 6, 4, 2, 1))
            found = next((n for n in parts if n and fits(n)), 0)
        else:
            found = _largest(bound, fits)
        if found:
            yield Remedy("smaller", f"a smaller step: {say(_part(counts, found))} would fit")

    def wider(self) -> Iterator[Remedy]:
        """Yield the nearest wider domain that has room, where only a narrow one is allowed."""
        wished = self.ask.placement
        levels = AFFINITY_LEVELS[AFFINITY_LEVELS.index(wished.affinity) + 1 :]
        for level in levels if wished.required else ():
            wider = wished.model_copy(update={"affinity": level})
            if self._fits(replace(self.ask, placement=wider)):
                yield Remedy(
                    "wider",
                    f"a wider domain: with placement.affinity {level}, or placement.required false, "
                    f"it would fit in {level}",
                )
                return

    def other_rules(self) -> Iterator[Remedy]:
        """Yield the service's own rules without which it would fit, each alone."""
        wished = self.ask.placement
        for field, change in (("spread", None), ("feeds", {})):
            loose = wished.model_copy(update={field: change})
            if getattr(wished, field) and self._fits(replace(self.ask, placement=loose)):
                yield Remedy("rule", f"a rule less: without placement.{field} it would fit")

    def tolerated(self) -> Iterator[Remedy]:
        """Yield the taints that the service would have to tolerate, each alone."""
        wished = self.ask.placement
        there = {
            taint
            for node in self.nodes
            if node.usable
            for taint in intolerable(node.taints, wished.tolerations)
        }
        for taint in sorted(there):
            one = Toleration(key=taint.key, value=taint.value, effect=taint.effect)
            more = wished.model_copy(update={"tolerations": (*wished.tolerations, one)})
            if self._fits(replace(self.ask, placement=more)):
                yield Remedy("taint", f"a toleration: the taint {taint} in placement.tolerations")

    def sub_clusters(self) -> Iterator[Remedy]:
        """Yield what would have to change of sub-clusters: what is required of them, or a quota."""
        wish, told = self.ask.placement.sub_cluster, self.ask.sub_clusters
        free = self.ask.placement.model_copy(update={"sub_cluster": type(wish)()})
        if wish.require and self._fits(replace(self.ask, placement=free)):
            text = "a rule less: without placement.subCluster.require it would fit"
            yield Remedy("rule", text)
        for name, one in sorted(told.items()):
            more = replace(one, quotas={}, quota=None)
            limited = one.quotas or one.quota is not None
            if limited and self._fits(replace(self.ask, sub_clusters={**told, name: more})):
                text = f"larger quotas in rules.subClusters.{name} of the coordinator"
                yield Remedy("quota", text)

    def more_types(self) -> Iterator[Remedy]:
        """Yield for each role the GPU types that would help it, each alone."""
        there = sorted({kind for node in self.nodes for kind in node.gpu_types.values()})
        for role in self.ask.delta:
            spec = self.ask.roles[role]
            for kind in (kind for kind in there if not _takes(spec, kind)):
                wider = spec.model_copy(update={"gpu_types": (*spec.gpu_types, kind)})
                if self._fits(replace(self.ask, roles={**self.ask.roles, role: wider})):
                    yield Remedy("types", f"more GPU types: {kind} in roles.{role}.gpuTypes")

    def opened(self) -> Iterator[Remedy]:
        """Yield the closed nodes that would help if they were open, by why they are closed."""
        closed: dict[str, list[NodeView]] = {}
        for node in self.nodes:
            if not node.usable:
                closed.setdefault(node.why_not or "not usable", []).append(node)
        for why, some in sorted(closed.items()):
            ids = {node.agent_id for node in some}
            if self._fits(self.ask, [replace(n, usable=True, why_not="") for n in some]):
                yield Remedy("open", f"nodes opened again: {_names(ids)} ({why})")

    def templates(self) -> Iterator[Remedy]:
        """Yield the launch templates that nodes would have to allow."""
        wanted = frozenset(self.ask.roles[role].template for role in self.ask.delta)
        lacking = [n for n in self.nodes if n.usable and not wanted <= n.templates]
        if not lacking:
            return
        allowed = [replace(node, templates=node.templates | wanted) for node in lacking]
        if self._fits(self.ask, allowed):
            names = " and ".join(sorted(wanted))
            yield Remedy(
                "template",
                f"launch template {names} allowed by the agents of {_names(n.agent_id for n in lacking)}",
            )

    def freed(self) -> Iterator[Remedy]:
        """Say that the fleet would be large enough, were nothing on it."""
        bare = [
            replace(node, free=tuple(sorted(node.gpu_types.keys() - node.closed.keys())))
            for node in self.nodes
            if node.usable
        ]
        held = sum(
            len(n.gpu_types) - len(n.closed) - len(set(n.free)) for n in self.nodes if n.usable
        )
        if held and self._fits(self.ask, bare):
            yield Remedy(
                "freed",
                f"GPUs freed: with nothing on these nodes it would fit; {held} GPUs are held",
            )

    def more_nodes(self) -> Iterator[Remedy]:
        """Yield the fewest nodes more that would do in one domain: one that stands, or a new S1."""
        sizes = _sizes(self.nodes)
        wanted = Counter[str]()
        for role in self.ask.delta:
            kind = _type_for(self.ask.roles[role], sizes)
            if kind is None:
                return
            wanted[kind] += _nodes_for(self.ask.roles[role], self.ask.delta[role], sizes[kind])
        if sum(wanted.values()) > MOST_NODES:
            return
        found = []
        for name, topology in (*self._roomiest(), ("one new S1 switch", {"s1": "a new S1"})):
            if least := self._fewest(wanted, sizes, topology):
                found.append((sum(least.values()), name, least))
        if found:
            _, name, least = min(found, key=lambda one: one[0])
            what = " and ".join(
                f"{n} of {kind} with {sizes[kind]} GPUs" for kind, n in least.items()
            )
            yield Remedy("nodes", f"new nodes below {name}: {what}")

    def _roomiest(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield the place of the node beside which there is most room, of the wished affinity level."""
        level = self.ask.placement.affinity
        free = Counter[str]()
        by_id = {node.agent_id: node for node in self.nodes}
        kinds = [self.ask.roles[role] for role in self.ask.delta]
        domains = {d.name: d for d in Tree(self.nodes).domains(level)}
        for name, domain in domains.items():
            for agent_id in domain.agents:
                node = by_id[agent_id]
                free[name] += sum(
                    any(_takes(spec, node.gpu_types.get(index, "")) for spec in kinds)
                    for index in (node.free if node.usable else ())
                )
        if best := min(free, key=lambda name: (-free[name], name), default=None):
            beside = by_id[min(domains[best].agents)].topology
            yield f"{level} {best}", {key: name for key, name in beside.items() if key != "s0"}

    def _fewest(
        self, wanted: Counter[str], sizes: Mapping[str, int], topology: Mapping[str, str]
    ) -> dict[str, int] | None:
        """Return the least number of nodes of each type, one type after the other; None: it is no use."""

        def fits(counts: Mapping[str, int]) -> bool:
            return self._fits(self.ask, list(self._new(counts, sizes, topology)))

        if not fits(wanted):
            return None
        least = dict(wanted)
        for kind, most in () if self._large else wanted.items():
            least[kind] = most - _largest(most, partial(self._spares, fits, least, kind, most))
        return {kind: count for kind, count in least.items() if count}

    @staticmethod
    def _spares(
        fits: Callable[[Mapping[str, int]], bool],
        least: Mapping[str, int],
        kind: str,
        most: int,
        less: int,
    ) -> bool:
        """Whether so many nodes of a type are not needed."""
        return fits({**least, kind: most - less})

    def _new(
        self, wanted: Mapping[str, int], sizes: Mapping[str, int], topology: Mapping[str, str]
    ) -> Iterator[NodeView]:
        templates = frozenset(self.ask.roles[role].template for role in self.ask.delta)
        for kind, count in wanted.items():
            gpus = tuple(range(sizes[kind]))
            for number in range(count):
                name = f"new {kind} {number}"
                yield NodeView(name, name, topology, dict.fromkeys(gpus, kind), gpus, templates)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to ``most`` that fits; 0 when none above it does."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def say(counts: Counts) -> str:
    """Return ``2 prefill and 4 decode``."""
    return " and ".join(f"{count} {role}" for role, count in counts.items() if count)


def _part(counts: Counts, of_largest: int) -> dict[Role, int]:
    """Return the counts so that the largest is ``of_largest``, each role at least one."""
    most = max(counts.values())
    return {role: max(1, count * of_largest // most) for role, count in counts.items()}


def _takes(spec: RoleSpec, kind: str) -> bool:
    return not spec.gpu_types or kind in spec.gpu_types


def _type_for(spec: RoleSpec, sizes: Mapping[str, int]) -> str | None:
    """Return the best type for a role whose nodes are large enough; None: there is none."""
    known = spec.gpu_types or sorted(sizes)
    return next((kind for kind in known if sizes.get(kind, 0) >= spec.gpus), None)


def _nodes_for(spec: RoleSpec, count: int, size: int) -> int:
    """Return how many nodes of a size hold so many instances; each rank has a node of its own."""
    return max(spec.ranks, ceil(count * spec.ranks / (size // spec.gpus)))


def _names(agent_ids: Iterable[str]) -> str:
    names = sorted(agent_ids)
    more = len(names) - SAID
    return ", ".join(names[:SAID]) + (f" and {more} more" if more > 0 else "")


def _sizes(nodes: Sequence[NodeView]) -> dict[str, int]:
    """Return how many GPUs most nodes of a type have."""
    seen: dict[str, Counter[int]] = {}
    for node in nodes:
        for kind, count in Counter(node.gpu_types.values()).items():
            seen.setdefault(kind, Counter())[count] += 1
    return {kind: max(sizes, key=lambda size: (sizes[size], size)) for kind, sizes in seen.items()}
