"""Fleets to place on: written ones, and Hypothesis strategies for small random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import settings
from hypothesis import strategies as st

from heteroscale.taints import parse_taint
from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, NodeView, Standing
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec, Toleration

P, D, A = Role.PREFILL, Role.DECODE, Role.AGGREGATED
BOTH = frozenset({"p", "d"})
CALM = settings(deadline=None)
"""For properties on shared machines: how long an example takes is no claim of theirs."""


def node(
    name: str,
    *types: str,
    s1: str = "",
    s2: str = "",
    free: Sequence[int] | None = None,
    templates: frozenset[str] = BOTH,
    why_not: str = "",
    taints: Sequence[str] = (),
    **outer: str,
) -> NodeView:
    """Return a node with one GPU per type given, all free unless ``free`` says otherwise."""
    levels = {"s1": s1, "s2": s2, **outer}
    return NodeView(
        agent_id=name,
        hostname=name,
        topology={level: domain for level, domain in levels.items() if domain},
        gpu_types=dict(enumerate(types)),
        free=tuple(range(len(types)) if free is None else free),
        templates=templates,
        usable=not why_not,
        why_not=why_not,
        taints=tuple(sorted(map(parse_taint, taints))),
    )


def two_minipods() -> list[NodeView]:
    """Return the demo's fleet: 8 nodes of 2 GPUs, types H20 and L20 in each of two S1 domains."""
    return [
        node(f"n{i}", *[("H20", "L20")[i % 2]] * 2, s1=f"minipod-{i // 4}", s2="bigpod")
        for i in range(8)
    ]


def role(template: str, *types: str, gpus: int = 1, ranks: int = 1) -> RoleSpec:
    """Return a role's specification."""
    return RoleSpec(template=template, gpu_types=types, gpus=gpus, ranks=ranks, max=99)


def ask(
    prefill: int,
    decode: int,
    roles: Mapping[Role, RoleSpec] | None = None,
    placement: PlacementSpec | None = None,
) -> Ask:
    """Return an ask of a service called chat."""
    both = {P: role("p", "L20", "H20"), D: role("d", "H20", "L20")}
    return Ask("chat", roles or both, {P: prefill, D: decode}, placement or PlacementSpec())


def stand(
    name: str,
    role_: Role,
    *agents: str,
    group: str = "g",
    withdrawn: bool = False,
    idle: float | None = None,
    age: float = 0.0,
) -> Standing:
    """Return a standing instance."""
    return Standing(name, role_, agents, group, withdrawn, idle, "", age)


TYPES = ("H20", "L20")
TRAIN, LOATH, AWAY = "dedicated=train:NoSchedule", "old:PreferNoSchedule", "broken:NoExecute"
_TAINTS: list[tuple[str, ...]] = [(), (), (), (TRAIN,), (LOATH,), (TRAIN, AWAY)]
_tolerations = st.sampled_from(
    [
        (),
        (),
        (Toleration(key="dedicated", value="train"),),
        (Toleration(operator="Exists"),),
        (Toleration(key="old", operator="Exists"),),
    ]
)
_types = st.sampled_from([(), ("H20",), ("L20",), ("H20", "L20"), ("L20", "H20")])


@st.composite
def nodes(draw: st.DrawFn, most: int = 6) -> list[NodeView]:
    """Draw a small fleet: mixed nodes, missing levels, used GPUs, missing templates, unusable nodes."""
    fleet = []
    for number in range(draw(st.integers(0, most))):
        types = draw(st.lists(st.sampled_from(TYPES), max_size=4))
        free = [index for index in range(len(types)) if draw(st.integers(0, 3))]
        fleet.append(
            node(
                f"n{number}",
                *types,
                s1=draw(st.sampled_from(["m0", "m1", "m1", ""])),
                s2=draw(st.sampled_from(["b0", "b0", "b1", ""])),
                free=free,
                templates=draw(st.sampled_from([BOTH, BOTH, BOTH, frozenset({"p"})])),
                why_not=draw(st.sampled_from(["", "", "", "", "disconnected"])),
                taints=draw(st.sampled_from(_TAINTS)),
            )
        )
    return fleet


@st.composite
def asks(draw: st.DrawFn, most: int = 3) -> Ask:
    """Draw an ask of one or both roles."""
    roles = {
        P: role("p", *draw(_types), gpus=draw(st.integers(1, 2)), ranks=draw(st.integers(1, 2))),
        D: role("d", *draw(_types), gpus=draw(st.integers(1, 3))),
    }
    placement = PlacementSpec(
        affinity=draw(st.sampled_from(["s1", "s2", "cluster"])),
        required=draw(st.booleans()),
        tolerations=draw(_tolerations),
    )
    return ask(draw(st.integers(0, most)), draw(st.integers(0, most)), roles, placement)


@st.composite
def standings(draw: st.DrawFn, most: int = 10) -> list[Standing]:
    """Draw standing instances on the nodes of ``nodes``, in up to three groups."""
    return [
        stand(
            f"i{number}",
            draw(st.sampled_from([P, D, D])),
            draw(st.sampled_from([f"n{n}" for n in range(7)])),
            group=draw(st.sampled_from(["g0", "g1", "g2"])),
            withdrawn=draw(st.sampled_from([False, False, True])),
            idle=draw(st.sampled_from([None, 0.0, 3.0])),
            age=draw(st.sampled_from([0.0, 10.0, 20.0])),
        )
        for number in range(draw(st.integers(0, most)))
    ]
