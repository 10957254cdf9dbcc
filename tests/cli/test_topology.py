"""topology: the tree of a fleet's file and of the coordinator, folded, opened, drawn, as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from heteroscale_cli.app import app
from heteroscale_cli.placing import folding, inventory, terminal, tree
from heteroscale_cli.placing.inventory import Inventory
from tests.cli.conftest import Typed
from tests.cli.fleets import FLEET, busy, fleet_file, live_node, node
from tests.cli.twin import OperatorTwin


def topology(*words: str) -> Result:
    return CliRunner().invoke(app, ["topology", *words])


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each line of the tree by the place's name, without guides and rails."""
    table = text.rstrip().partition("\n\n")[0].splitlines()[1:]
    cells = [re.split(r" {3,}", re.sub(r"^[│├└ ]+", "", line)) for line in table]
    return {row[0]: row[1:] for row in cells}


# ---- the tree ----------------------------------------------------------------------------------


def test_every_level_tells_what_is_free_by_type_and_class(tmp_path: Path) -> None:
    result = topology("--fleet", fleet_file(tmp_path))
    assert result.exit_code == 0, result.stderr
    shown = rows(result.stdout)
    assert shown["east"][:3] == ["42", "42", "336/336"]
    assert shown["east"][4] == "H100 32/32, H20 64/64, L20 240/240"
    assert shown["east"][5] == "low 240/240, high 96/96"
    assert shown["s1 hall-s1-1"][:3] == ["6", "6", "48/48"]
    assert shown["s1 hall-s1-1"][4:] == ["H100 16/16, H20 32/32", "high 48/48"]
    assert "east: 42 nodes, 336 GPUs (336 free, 0 held); 42 nodes empty" in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


def test_domains_that_are_alike_are_one_line(tmp_path: Path) -> None:
    text = FLEET.replace("s1PerS2: 3", "s1PerS2: 6")
    shown = rows(topology("--fleet", fleet_file(tmp_path, text)).stdout)
    assert shown["6 s1 l20-s1-1 … l20-s1-6"][:3] == ["30", "30", "240/240"]
    assert shown["6 s1 l20-s1-1 … l20-s1-6"][4] == "L20 240/240 (40 each)"


def test_what_is_opened_is_shown_one_by_one(tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path)
    assert "l20-07" not in topology("--fleet", fleet).stdout
    shown = rows(topology("--fleet", fleet, "--open", "l20-s1-2").stdout)
    assert [name for name in shown if name.startswith("l20-")] == [
        f"l20-{n:02d}" for n in range(6, 11)
    ]
    path = rows(topology("--fleet", fleet, "--open", "hall-s2-1/hall-s1-2").stdout)
    assert "h100-3" in path


def test_a_level_ends_the_tree_earlier_or_later(tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path)
    assert not [n for n in rows(topology("--fleet", fleet, "--level", "s2").stdout) if "s1 " in n]
    deep = rows(topology("--fleet", fleet, "--level", "node").stdout)
    assert deep["5 node l20-01 … l20-05"][:3] == ["5", "5", "40/40"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--level", "rack"), "--level rack: no such level; one of vdc, physical_cluster, "),
        (("--open", "hall-s1-9"), "--open hall-s1-9: no such domain; there are hall-s1-"),
        (("--open", "zzzz"), "--open zzzz: no such domain; there are "),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = topology("--fleet", fleet_file(tmp_path), *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_two_domains_of_one_name_are_told_apart_by_their_path() -> None:
    nodes = [node("a", s1="x", s2="p"), node("b", s1="x", s2="q")]
    root = tree.grow(Inventory("f", tuple(nodes)))
    assert [one.path for one in tree.find(root, "x")] == [("p", "x"), ("q", "x")]
    assert [one.path for one in tree.find(root, "q/x")] == [("q", "x")]


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    places = "{places: [{nodes: 1, s1: x, s2: p}, {nodes: 1, s1: x, s2: q}]}"
    text = f"""\
apiVersion: heteroscale/v1
kind: Fleet
metadata: {{name: twice}}
spec: {{pools: [{{name: h, nodes: 2, gpuType: H20, topology: {places}}}]}}
"""
    result = topology("--fleet", fleet_file(tmp_path, text), "--open", "x")
    assert result.exit_code == 2
    assert "2 domains are named so; say which: cluster-1/p/x, cluster-1/q/x" in result.stderr


def test_a_wrong_fleet_is_told_with_file_line_and_field(tmp_path: Path) -> None:
    wrong = fleet_file(tmp_path, FLEET.replace("nodes: 8", "nodes: none"))
    result = topology("--fleet", wrong)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{wrong}:6: spec.pools.0.nodes: ")
    missing = topology("--fleet", str(tmp_path / "no.yaml"))
    assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)
    assert "say --fleet live" in topology("--fleet", str(tmp_path / "east")).stderr


def test_a_fleets_reader_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "entry_points", lambda **_: [])
    result = topology("--fleet", "x.yaml")
    assert result.exit_code == 2
    assert "pip install 'heteroscale[simulator]'" in result.stderr


def test_a_reader_that_lacks_a_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "Fleet"

        def load(self) -> None:
            raise ModuleNotFoundError("numpy", name="numpy")

    monkeypatch.setattr(inventory, "entry_points", lambda **_: [Point()])
    assert "--fleet FILE needs numpy" in topology("--fleet", "x.yaml").stderr


# ---- what is used ------------------------------------------------------------------------------


def test_held_closed_and_scattered_gpus_are_counted_apart() -> None:
    root = tree.grow(busy())
    assert root.use == tree.Use(40, 21, 13)
    assert root.use.closed == 6
    assert (root.empty, root.scattered) == (2, 5)
    assert {name: use.gpus for name, use in root.by_class.items()} == {"medium": 24, "high": 16}
    assert root.by_type["L20"] == tree.Use(8, 5, 3)
    assert list(root.by_class) == ["medium", "high"]


def test_a_node_hangs_under_the_next_level_that_it_names() -> None:
    known = busy()
    (s2,) = tree.grow(known).children
    assert [(one.level, one.name) for one in s2.children] == [
        ("node", "c1"),
        ("s1", "x"),
        ("s1", "y"),
    ]
    assert tree.unnamed(known) == [
        "1 of 5 nodes name no s1 (c1): each hangs under the next level up"
    ]
    bare = Inventory("bare", (node("a"), node("b"), node("c"), node("d")))
    assert tree.unnamed(bare) == [
        "no node names its s2: nothing can be kept together there",
        "no node names its s1: nothing can be kept together there",
    ]


def test_several_agents_of_one_host_are_told_apart() -> None:
    nodes = [node("a", s1="x"), node("b", s1="x"), node("c", s1="x"), node("d", s1="x")]
    named = zip(nodes, ("vm", "vm", "gpu-9", ""), strict=True)
    known = tuple(replace(n, view=replace(n.view, hostname=host)) for n, host in named)
    (s1,) = tree.grow(Inventory("f", known)).children
    assert [one.name for one in s1.children] == ["a", "b", "d", "gpu-9"]


def test_an_s0_counts_only_where_nodes_share_it() -> None:
    alone = Inventory("f", tuple(node(f"n{i}", s0=f"n{i}", s1="x") for i in range(4)))
    shared = Inventory("f", tuple(node(f"n{i}", s0=f"sw{i // 2}", s1="x") for i in range(4)))
    assert tree.levels_of(alone) == ("s1",)
    assert tree.levels_of(shared) == ("s1", "s0")


def test_the_terminal_shows_closed_gpus_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tree.grow(busy())
    terminal.show(terminal.table(folding.fold(root, "s1")))
    text = capsys.readouterr().out
    assert "CLOSED" in text
    shown = rows(text)
    assert shown["s1 y"] == ["2", "1", "8/16", "█××××░░░░░", "6", "H20 8/16", "medium 8/16"]
    assert terminal.bar(tree.Use()).plain == ""


def test_a_narrow_terminal_is_spared_columns_not_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = folding.fold(tree.grow(inventory.of_file(Path(fleet_file(tmp_path)))), "s1")
    titles = {}
    for width in (200, 105, 60, 20):
        board = Console(width=width)
        monkeypatch.setattr(terminal, "console", lambda board=board: board)
        titles[width] = [str(column.header) for column in terminal.table(lines).columns]
    assert titles[200][-2:] == ["FREE BY TYPE", "FREE BY CLASS"]
    assert titles[105] == ["DOMAIN", "NODES", "EMPTY", "FREE/GPUS", "FREE BY TYPE"]
    assert titles[60] == ["DOMAIN", "NODES", "EMPTY", "FREE/GPUS"]
    assert titles[20] == ["DOMAIN", "NODES", "FREE/GPUS"]


def test_work_in_progress_is_said_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal.busy("Looking …"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich takes a terminal for granted
    with terminal.busy("Looking …"):
        pass
    assert "Looking …" in capsys.readouterr().err


def test_many_unlike_siblings_are_folded_by_what_they_are() -> None:
    nodes = [node(f"n{i:02d}", gpus=i + 1, s1=f"x{i:02d}", s2="z") for i in range(30)]
    full = [node(f"f{i:02d}", held=8, s1=f"y{i:02d}", s2="z") for i in range(3)]
    lines = folding.fold(tree.grow(Inventory("f", (*nodes, *full))), "s1")
    assert [len(line.branches) for line in lines] == [1, 1, 30, 3]
    assert {folding.kind_of(one) for one in lines[3].branches} == {"full"}
    assert "(1–30)" in terminal._types(lines[2], {"H20": ""}).plain


def test_a_motley_fleet_ends_at_the_level_that_fits_a_page() -> None:
    nodes = [
        node(f"n{i}-{j}-{k}", f"T{i}-{j % 5}", s1=f"x{i}-{j}", s2=f"z{i}", logical_cluster="c")
        for i in range(20)
        for j in range(20)
        for k in range(1 + j % 3)
    ]
    root = tree.grow(Inventory("f", tuple(nodes)))
    assert len(folding.fold(root, "s1")) > folding.PAGE
    assert folding.deepest_of(root) == "s2"
    flat = tree.grow(Inventory("flat", tuple(node(f"n{i}") for i in range(40))))
    assert folding.deepest_of(flat) == "node"
    many = [node(f"n{i}", gpus=i % 90 + 1, s1=f"x{i}") for i in range(900)]
    assert folding.deepest_of(tree.grow(Inventory("many", tuple(many)))) == "s1"


def test_numbers_in_names_are_ordered_as_numbers() -> None:
    assert sorted(["s1-10", "s1-2", "a"], key=tree.natural) == ["a", "s1-2", "s1-10"]


# ---- for machines ------------------------------------------------------------------------------


def every(domain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield domain
    for below in domain.get("domains", ()):
        yield from every(below)


def test_json_has_the_tree_to_the_level_asked_for(tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path)
    data = json.loads(topology("--fleet", fleet, "--json", "--level", "node").stdout)
    assert (data["fleet"], data["nodes"], data["gpus"]["free"]) == ("east", 42, 336)
    (root,) = data["domains"]
    levels = Counter(one["level"] for one in every(root))
    assert levels == {"all": 1, "logical_cluster": 2, "s2": 3, "s1": 8, "node": 42}
    leaf = next(one for one in every(root) if one["name"] == "h100-1")
    assert leaf["path"] == ["hall-cluster-1", "hall-s2-1", "hall-s1-1", "h100-1"]
    assert leaf["free_gpus"] == list(range(8))
    assert leaf["by_class"] == {"high": {"total": 8, "free": 8, "held": 0, "closed": 0}}
    part = json.loads(topology("--fleet", fleet, "--json", "--open", "hall-s1-2").stdout)
    assert [one["level"] for one in every(part["domains"][0])] == ["s1"] + 6 * ["node"]


# ---- live --------------------------------------------------------------------------------------


def test_the_live_fleet_is_read_in_pages(typed: Typed, twin: OperatorTwin) -> None:
    twin.nodes = [
        live_node("n1", "x", held=4),
        live_node("n2", "x", gpu="L20"),
        live_node("n3", "y", closed="not connected"),
    ]
    twin.largest_page = 2
    result = typed("topology")
    assert result.exit_code == 0, result.stderr
    shown = rows(result.stdout)
    assert shown["live"][:3] == ["3", "1", "12/24"]
    assert shown["s1 x"][-1] == "high 12/16"
    assert shown["host-n3"][:4] == ["1", "0", "0/8", "××××××××××"]
    assert "no node names its s2" in result.stderr
    assert [request.page_token for request in twin.requests] == ["", "n2"]


def test_a_coordinator_that_tells_no_room_is_too_old(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("topology")
    assert result.exit_code == 1
    assert "too old to tell the room" in result.stderr
    twin.nodes = []
    assert "knows no nodes yet" in typed("topology").stderr


def test_json_tells_what_is_free_by_numa_node(typed: Typed, twin: OperatorTwin) -> None:
    twin.nodes = [
        live_node("n1", "x", held=3, numa_nodes=[1, 1, 1, 1, 0, 0, 0, -1]),
        live_node("n2", "x"),
    ]
    (domain,) = json.loads(typed("topology", "--level", "node", "--json").stdout)["domains"]
    (s1,) = domain["domains"]
    told, untold = s1["domains"]
    assert told["numa_nodes"] == {
        "0": {"gpus": [4, 5, 6], "free": [4, 5, 6]},
        "1": {"gpus": [0, 1, 2, 3], "free": [3]},
    }
    assert "numa_nodes" not in untold


def test_taints_are_noted_and_told_with_nvlink_groups_node_by_node(
    typed: Typed, twin: OperatorTwin
) -> None:
    pairs = [0, 0, 2, 2, 4, 4, 6, 6]
    twin.nodes = [
        live_node("n1", "x", held=1, nvlink_groups=pairs, taints=["dedicated=train:NoSchedule"]),
        live_node("n2", "x"),
    ]
    assert "1 of 2 nodes carry the taint dedicated=train:NoSchedule" in typed("topology").stderr
    (domain,) = json.loads(typed("topology", "--level", "node", "--json").stdout)["domains"]
    tainted, plain = domain["domains"][0]["domains"]
    assert tainted["taints"] == ["dedicated=train:NoSchedule"]
    assert tainted["nvlink_groups"]["0"] == {"gpus": [0, 1], "free": [1]}
    assert not {"taints", "nvlink_groups"} & plain.keys()
