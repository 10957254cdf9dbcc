"""Where a prefill that is split stands: attention and ffn in one S1, the pair under one S2 (paper §4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement import Ask, Infeasible, NodeView, Placed, place
from heteroscale_coordinator.core.spec import PlacementSpec
from tests.core.placement.fleets import node, role, stand

A, F, D = Role.ATTENTION, Role.FFN, Role.DECODE
PARTS = {A: role("p"), F: role("p"), D: role("d")}


def step(
    delta: Counts, affinity: Literal["s1", "s2", "cluster"] = "s1", *, required: bool = False
) -> Ask:
    return Ask("moe", PARTS, delta, PlacementSpec(affinity=affinity, required=required))


def pods(*gpus: int) -> list[NodeView]:
    """Return one S2 of S1 domains with so many GPUs, each GPU on a node of its own."""
    return [
        node(f"n{pod}{number}", "H20", s1=f"pod-{pod}", s2="big")
        for pod, count in enumerate(gpus)
        for number in range(count)
    ]


def homes(answer: Placed, *roles: Role) -> set[str]:
    """Return the S1 domains in which instances of ``roles`` are placed."""
    return {f"pod-{s.ranks[0].agent_id[1]}" for s in answer.spots if s.role in roles}


def test_a_step_too_large_for_an_s1_keeps_attention_and_ffn_in_one() -> None:
    answer = place(step({A: 2, F: 1, D: 3}), pods(2, 3, 2), [])
    assert isinstance(answer, Placed)
    assert answer.affinity_met == "s2"
    assert homes(answer, A, F) == {"pod-1"}
    assert homes(answer, D) == {"pod-0", "pod-2"}
    assert len({(s.ranks[0].agent_id, s.ranks[0].gpu_indices) for s in answer.spots}) == 6


def test_where_no_s1_holds_both_parts_only_a_cluster_wide_step_has_them_apart() -> None:
    delta = {A: 2, F: 1, D: 2}
    held = place(step(delta, "s2", required=True), pods(2, 2, 2), [])
    assert isinstance(held, Infeasible)
    loose = place(step(delta, "s2"), pods(2, 2, 2), [])
    assert isinstance(loose, Placed)
    assert loose.affinity_met == "cluster"


def test_across_a_cluster_attention_and_ffn_still_share_an_s1_where_one_holds_both() -> None:
    answer = place(step({A: 1, F: 1, D: 1}, "cluster"), pods(1, 2), [])
    assert isinstance(answer, Placed)
    assert homes(answer, A, F) == {"pod-1"}
    assert homes(answer, D) == {"pod-0"}


def test_a_lone_ffn_goes_beside_its_attention() -> None:
    standing = [stand("a", A, "n10"), stand("d", D, "n00")]
    answer = place(step({F: 1}), pods(3, 2), standing)
    assert isinstance(answer, Placed)
    assert homes(answer, F) == {"pod-1"}


def test_a_lone_decode_goes_beside_attention() -> None:
    answer = place(step({D: 1}), pods(3, 2), [stand("a", A, "n10")])
    assert isinstance(answer, Placed)
    assert homes(answer, D) == {"pod-1"}


def test_a_lone_attention_goes_to_its_ffn_and_not_to_decode() -> None:
    standing = [stand("f", F, "n10"), stand("a", A, "n11"), stand("d", D, "n00")]
    answer = place(step({A: 1}), pods(3, 3), standing)
    assert isinstance(answer, Placed)
    assert homes(answer, A) == {"pod-1"}
    # Without any ffn decode is all that it can stand beside.
    only = place(step({A: 1}), pods(3, 3), [stand("d", D, "n00")])
    assert isinstance(only, Placed)
    assert homes(only, A) == {"pod-0"}


def test_half_of_a_pair_shares_the_s1_of_the_other_whatever_the_affinity() -> None:
    # The fuller S1 would fit better, and the affinity of the service is wider.
    standing = [stand("a", A, "n10", group="moe@s2=big"), stand("d", D, "n00", group="moe@s2=big")]
    for affinity in ("s2", "cluster"):
        for required in (False, True):
            answer = place(step({F: 1}, affinity, required=required), pods(2, 4), standing)
            assert isinstance(answer, Placed)
            assert homes(answer, F) == {"pod-1"}
            assert answer.affinity_met == "s1"
            assert "wider" not in answer.reason
    near = place(step({F: 1}, "s2"), pods(2, 4), standing)
    assert isinstance(near, Placed)
    assert {spot.group for spot in near.spots} == {"moe@s2=big"}, "and it is of the same group"


def test_where_its_s1_is_full_half_of_a_pair_stands_apart_and_it_is_said() -> None:
    full = [n for n in pods(2, 2) if n.agent_id != "n11"]
    full = [replace(n, free=()) if n.agent_id == "n10" else n for n in full]
    answer = place(step({F: 1}, "s2"), full, [stand("a", A, "n10")])
    assert isinstance(answer, Placed)
    assert homes(answer, F) == {"pod-0"}
    assert "no s1 with attention has room, which it should share" in answer.reason
    assert "wider" not in answer.reason
