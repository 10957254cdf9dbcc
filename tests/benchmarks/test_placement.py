"""The placement benchmark: its solver is right, its baselines obey, its judge sees a cheat."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from benchmarks.placement import table
from benchmarks.placement.__main__ import main
from benchmarks.placement.cases import LOADS, TEMPLATE, Case, random_case
from benchmarks.placement.exact import DEFAULT, PYTHON, NoSolverError, Solver, solver_python
from benchmarks.placement.flow import crossing, inside
from benchmarks.placement.judge import CheatError, Judge
from benchmarks.placement.keep import Kept
from benchmarks.placement.placers import OURS, PLACERS
from benchmarks.placement.port import Held
from benchmarks.placement.quality import (
    BEST,
    RULES,
    Contest,
    Score,
    dominates,
    duels,
    losses,
    rows,
)

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Rank
from heteroscale_coordinator.core.placement import Ask, NodeView, Spot
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec

P, D = Role.PREFILL, Role.DECODE
needs_solver = pytest.mark.skipif(
    not Path(os.environ.get(PYTHON) or DEFAULT).exists(),
    reason=f"no OR-tools: make .venv-solver, or set {PYTHON}",
)


def node(name: str, kind: str, s1: str, free: int) -> NodeView:
    topology = {"s1": s1, "s2": s1[0], "logical_cluster": "c"}
    types = dict.fromkeys(range(free), kind)
    return NodeView(name, name, topology, types, tuple(range(free)), frozenset([TEMPLATE]))


def ask(
    name: str, prefill: int, decode: int, *, gpus: int = 1, ranks: int = 1, **placement: object
) -> Ask:
    roles = {
        P: RoleSpec(template=TEMPLATE, gpu_types=("H100",)),
        D: RoleSpec(template=TEMPLATE, gpu_types=("H20",), gpus=gpus, ranks=ranks),
    }
    where = PlacementSpec.model_validate(placement)
    return Ask(name, roles, {P: prefill, D: decode}, where)


def spot(role: Role, *agents: str, gpu: int = 0, kind: str = "H20") -> Spot:
    return Spot(role, tuple(Rank(agent, (gpu,)) for agent in agents), "g", kind)


# ---- the solver --------------------------------------------------------------------------------

PAIR = (node("a", "H100", "x1", 2), node("b", "H20", "x1", 3))
WIDE = (*PAIR, node("c", "H100", "x2", 2), node("d", "H20", "x3", 4))
CHOOSY = Ask(
    "v",
    {
        P: RoleSpec(template=TEMPLATE, gpu_types=("H20", "H100")),
        D: RoleSpec(template=TEMPLATE, gpu_types=("H100", "H20"), gpus=2),
    },
    {P: 2, D: 1},
    PlacementSpec(affinity="s1"),
)
"""It may stand anywhere, on either type; it wishes one S1, and a type for each role."""
TINY = {
    "wishes": Case("wishes", PAIR, (ask("s", 1, 1), CHOOSY, ask("t", 1, 2))),
    "wishes of the first": Case("first", WIDE, (CHOOSY, ask("s", 1, 2), ask("t", 2, 2))),
    "room for all": Case("all", WIDE, (ask("s", 1, 2), ask("t", 1, 1))),
    "too much for both": Case(
        "both", PAIR, (ask("s", 1, 3, affinity="s1", required=True), ask("t", 1, 1), ask("u", 1, 2))
    ),
    "walls": Case(
        "walls",
        WIDE,
        (ask("s", 1, 2, affinity="s2"), ask("t", 2, 2, affinity="s1", required=True)),
    ),
    "two ranks": Case(
        "ranks", WIDE, (ask("s", 1, 1, gpus=3, ranks=2, affinity="s2"), ask("t", 1, 1))
    ),
    "one of two ranks": Case("rank", PAIR, (ask("s", 1, 1, ranks=2),)),
}
Seats = tuple[tuple[int, ...], ...]
Wish = tuple[bool, bool, int]


def seats(case: Case, one: Ask) -> list[tuple[Spot, ...]]:
    """Return every way to seat a step, whoever else there is: node by node, plain and slow."""
    ways = []
    for role, count in one.delta.items():
        spec = one.roles[role]
        fit = [
            n for n in case.nodes if n.gpu_types[0] in spec.gpu_types and len(n.free) >= spec.gpus
        ]
        choices = [
            way
            for way in product(fit, repeat=spec.ranks)
            if len({n.agent_id for n in way}) == spec.ranks
        ]
        ways += [[(role, way) for way in choices]] * count
    return [
        tuple(
            Spot(
                role,
                tuple(Rank(n.agent_id, tuple(range(one.roles[role].gpus))) for n in way),
                "g",
                way[0].gpu_types[0],
            )
            for role, way in chosen
        )
        for chosen in product(*ways)
    ]


def everything(case: Case) -> Iterator[tuple[list[int], int, float, list[Wish]]]:
    """Yield (steps placed, high GPUs, pairs over walls, wishes) of every placement there is."""
    judge = Judge(case.nodes)
    free = {n.agent_id: len(n.free) for n in case.nodes}
    ways: list[list[tuple[Spot, ...]]] = [[(), *seats(case, one)] for one in case.asks]
    for chosen in product(*ways):
        used = dict.fromkeys(free, 0)
        for rank in (rank for spots in chosen for one in spots for rank in one.ranks):
            used[rank.agent_id] += len(rank.gpu_indices)
        if any(used[agent] > free[agent] for agent in free):
            continue
        placed = [pair for pair in zip(case.asks, chosen, strict=True) if pair[1]]
        try:
            for asked, spots in placed:
                judge._check_walls(asked, spots)
        except CheatError:
            continue
        steps = [number for number, spots in enumerate(chosen) if spots]
        high = sum(judge.high(spots) for spots in chosen)
        cross = sum(judge.crossing(spots, asked.placement.affinity) for asked, spots in placed)
        wishes = [wish(judge, *pair) for pair in zip(case.asks, chosen, strict=True)]
        yield steps, high, round(cross, 6), wishes


def wish(judge: Judge, asked: Ask, spots: tuple[Spot, ...]) -> Wish:
    """Return what a step lacks: its place, its domain, its first GPU types."""
    off = sum(asked.roles[one.role].gpu_types.index(one.gpu_type) for one in spots)
    apart = not spots or judge.crossing(spots, asked.placement.affinity) > 0
    return not spots, apart, off


@needs_solver
@pytest.mark.parametrize("name", TINY)
def test_the_solver_agrees_with_trying_everything(name: str) -> None:
    case = TINY[name]
    tried = list(everything(case))
    most = min((-len(steps), high, cross) for steps, high, cross, _ in tried)
    first = min(
        ([-(number in steps) for number in range(len(case.asks))], high, cross)
        for steps, high, cross, _ in tried
    )
    wished = min((wishes, high, cross) for _, high, cross, wishes in tried)
    with Solver(10.0) as solver:
        free = solver.solve(case.problem(ordered=False))
        ordered = solver.solve(case.problem(ordered=True))
        strict = solver.solve(case.problem(ordered=True, wishes=True))
    assert strict["proven"] == [True, True, True]
    lacking = [number for number, (refused, _, _) in enumerate(wished[0]) if refused]
    assert lacking == [n for n in range(len(case.asks)) if n not in strict["steps"]]
    assert (strict["placed"], strict["high"], strict["cross"]) == (
        *(len(strict["steps"]), wished[1]),
        wished[2],
    )
    assert free["proven"] == ordered["proven"] == [True, True, True]
    assert (-len(free["steps"]), free["high"], free["cross"]) == most
    flags = [-(number in ordered["steps"]) for number in range(len(case.asks))]
    assert (flags, ordered["high"], ordered["cross"]) == first


@needs_solver
def test_a_quick_run_measures_quality_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--only", "quality", "--cases", "1", "--keep", str(tmp_path / "kept")]
    assert main([*line, "--json", str(tmp_path / "out.json")]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["quality"]
    assert len(found) == len(RULES) * len(LOADS)
    assert all(BEST in one["scores"] and OURS in one["scores"] for one in found)
    assert "goal of 99%" in told
    files = {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert main(line) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == files
    assert capsys.readouterr().out == told


def test_without_a_solver_the_way_to_one_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PYTHON, "/no/python")
    with pytest.raises(NoSolverError, match=r"make \.venv-solver"):
        solver_python()
    assert main(["--only", "quality", "--cases", "1"]) == 2
    assert "make .venv-solver" in capsys.readouterr().err
    assert main(["--only", "beauty"]) == 2
    assert "no part beauty" in capsys.readouterr().err


# ---- the placers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACERS)
@pytest.mark.parametrize("load", LOADS)
def test_no_placer_takes_what_is_not_there(name: str, load: str) -> None:
    for seed in range(6):
        case = random_case(load, seed)
        placer, judge = PLACERS[name](case.nodes), Judge(case.nodes)
        placed: list[tuple[Ask, tuple[Spot, ...]]] = []
        for one in case.asks:
            spots = placer.place(one, (), 0.0)
            if spots is not None:
                judge.take(one, spots)
                placed.append((one, spots))
        assert placed, "a case with no room at all tells nothing"
        for _, spots in placed:
            for each in spots:
                placer.give(each)
                judge.give(each)
        # What was given back can be had again.
        one, spots = placed[0]
        again = placer.place(one, (), 0.0)
        assert again is not None
        judge.take(one, again)


@pytest.mark.parametrize("name", PLACERS)
def test_a_step_without_room_leaves_nothing_behind(name: str) -> None:
    placer = PLACERS[name](PAIR)
    assert placer.place(ask("s", 1, 4), (), 0.0) is None
    assert placer.place(ask("t", 2, 3), (), 0.0) is not None


@pytest.mark.parametrize("name", PLACERS)
def test_required_walls_keep_a_lone_role_beside_its_peer(name: str) -> None:
    nodes = (*PAIR, node("c", "H20", "y1", 8))
    placer = PLACERS[name](nodes)
    one = ask("s", 1, 1, affinity="s1", required=True)
    spots = placer.place(one, (), 0.0)
    assert spots is not None
    standing = [Held(f"i{n}", each, 0.0) for n, each in enumerate(spots)]
    more = placer.place(replace(one, delta={D: 2}), standing, 0.0)
    assert more is not None
    assert {each.ranks[0].agent_id for each in more} == {"b"}
    standing += [Held(f"j{n}", each, 1.0) for n, each in enumerate(more)]
    assert placer.place(replace(one, delta={D: 1}), standing, 2.0) is None
    gone = placer.victims({D: 2}, standing, 3.0)
    assert len(gone) == 2
    assert {held.spot.role for held in gone} == {D}


FIRST_NODES = {"first-fit": "b", "best-fit": "c", "spread": "d", "kube": "d"}


@pytest.mark.parametrize(("name", "first"), FIRST_NODES.items())
def test_each_baseline_has_its_own_taste(name: str, first: str) -> None:
    nodes = [node(n, "H20", "x1", 8) for n in "bcd"]
    free = {"b": 6, "c": 3, "d": 8}
    nodes = [replace(n, free=tuple(range(free[n.agent_id]))) for n in nodes]
    placer = PLACERS[name](nodes)
    spots = placer.place(replace(ask("s", 1, 1, gpus=2), delta={D: 1}), (), 0.0)
    assert spots is not None
    assert spots[0].ranks[0].agent_id == first


def test_kube_goes_beside_the_other_role_unless_its_own_is_there() -> None:
    nodes = [node("a", "H100", "x1", 8), node("b", "H20", "x1", 8), node("c", "H20", "y1", 8)]
    placer = PLACERS["kube"](nodes)
    standing = [Held("p", Spot(P, (Rank("a", (0,)),), "s", "H100"), 0.0)]
    spots = placer.place(replace(ask("s", 0, 0), delta={D: 2}), standing, 0.0)
    assert spots is not None
    # Both scores weigh the same, and the emptier node then decides.
    assert [each.ranks[0].agent_id for each in spots] == ["b", "c"]


# ---- the judge ---------------------------------------------------------------------------------

CHEATS: list[tuple[Ask, Sequence[Spot], str]] = [
    (ask("s", 1, 1), [spot(P, "a", kind="H100")], "not 1 decode"),
    (ask("s", 1, 1), [spot(P, "a", kind="H100"), spot(D, "b", gpu=3)], "not free"),
    (ask("s", 1, 1), [spot(P, "b", kind="H20"), spot(D, "b", gpu=1)], "on {'H20'}"),
    (ask("s", 1, 1), [spot(P, "a", kind="H100"), spot(D, "b", "d")], "ranks on"),
    (
        ask("s", 1, 1, affinity="s1", required=True),
        [spot(P, "a", kind="H100"), spot(D, "d")],
        "torn apart",
    ),
    (
        ask("s", 1, 1, ranks=2, affinity="s1", required=True),
        [spot(P, "a", kind="H100"), spot(D, "b", "d")],
        "an instance over two s1",
    ),
]


@pytest.mark.parametrize(("one", "spots", "words"), CHEATS)
def test_the_judge_sees_a_cheat(one: Ask, spots: Sequence[Spot], words: str) -> None:
    with pytest.raises(CheatError, match=words):
        Judge(WIDE).take(one, spots)


def test_traffic_that_must_leave_a_domain() -> None:
    domains = {"a": "x", "b": "x", "c": "y", "d": "y"}
    together = [spot(P, "a"), spot(D, "b"), spot(P, "c"), spot(D, "d")]
    assert inside(together, domains) == 1.0
    assert crossing(together, domains) == 0.0
    apart = [spot(P, "a"), spot(P, "b"), spot(D, "c"), spot(D, "d")]
    assert (inside(apart, domains), crossing(apart, domains)) == (0.0, 4.0)
    uneven = [spot(P, "a"), spot(D, "b"), spot(D, "c"), spot(D, "d")]
    assert inside(uneven, domains) == pytest.approx(1 / 3)
    assert inside([spot(D, "c")], domains) == 1.0, "nobody to exchange with"


# ---- what it came to ---------------------------------------------------------------------------


def contest(ours: Score, theirs: Score, best: Score, proven: bool = True) -> Contest:
    scores = {OURS: ours, **{n: theirs for n in PLACERS if n != OURS}, BEST: best}
    return Contest("c", "light", "ordered", 4, scores, (proven, True, True))


def test_rows_are_means_over_cases_with_a_proven_best() -> None:
    found = [
        contest(Score(4, 5, 1.0, 1.0), Score(2, 0, 0.0, 0.5), Score(4, 3, 1.0)),
        contest(Score(1, 0, 0.0, 0.5), Score(2, 9, 0.0, 1.0), Score(2, 1, 0.0)),
        contest(Score(1, 0, 0.0, 0.1), Score(1, 0, 0.0, 0.1), Score(4, 3, 1.0), proven=False),
    ]
    (ours, *_) = rows(found)
    assert (ours.of_best, ours.worst, ours.all_placed) == (0.75, 0.5, 0.5)
    assert ours.high_over == 0.5, "two GPUs more than the best, over four steps"
    assert rows([]) == []
    assert [line.split(":")[0] for line in losses(found)] == ["c, ordered"] * 2
    assert "MISSED" in table.quality(found)


def test_a_rival_that_is_better_in_all_is_said_to_be() -> None:
    found = [contest(Score(2, 4, 2.0), Score(2, 4, 1.0), Score(2, 0, 0.0))]
    assert [duel.not_worse for duel in duels(found)] == [False] * 4
    assert {(duel.beats, duel.beaten) for duel in duels(found)} == {(0, 1)}
    assert "WORSE" in table.quality(found)
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((0, 3), (1, 2))


def test_figures_of_other_inputs_are_made_anew(tmp_path: Path) -> None:
    kept, made = Kept(tmp_path), list[int]()

    def make() -> dict[str, int]:
        made.append(1)
        return {"n": len(made)}

    assert [kept.get("a", inputs, make)["n"] for inputs in ("x", "x", "y", "y")] == [1, 1, 2, 2]
    assert Kept(None).get("a", "x", make)["n"] == 3
