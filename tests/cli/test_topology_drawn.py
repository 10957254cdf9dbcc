"""topology --svg: the picture of a fleet, and how its boxes lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heteroscale_cli.app import app
from heteroscale_cli.placing import boxes, svg, tree
from heteroscale_cli.placing.inventory import Inventory
from tests.cli.drawn import SVG, figures, parsed
from tests.cli.fleets import busy, fleet_file, node


def topology(*words: str) -> Result:
    return CliRunner().invoke(app, ["topology", *words])


def test_the_picture_is_valid_and_its_figures_agree_with_json(tmp_path: Path) -> None:
    fleet, file = fleet_file(tmp_path), tmp_path / "east.svg"
    result = topology("--fleet", fleet, "--svg", str(file))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{file}: east: 42 nodes")
    drawn = parsed(file.read_text())
    data = json.loads(topology("--fleet", fleet, "--json", "--level", "node").stdout)
    gpus = data["gpus"]
    for level in ("node", "s1", "s2", "logical_cluster", "all"):
        seen = figures(drawn, level)
        assert (seen["gpus"], seen["free"], seen["held"]) == (
            gpus["total"],
            gpus["free"],
            gpus["held"],
        )
    assert figures(drawn, "node")["boxes"] == data["nodes"]
    words = " ".join(text.text or "" for text in drawn.iter(f"{SVG}text"))
    for kind, use in data["by_type"].items():
        assert f"{kind} {use['free']:,} of {use['total']:,} free" in words


def test_the_picture_shows_use_class_and_what_is_closed() -> None:
    drawn = parsed(svg.draw(tree.grow(busy())))
    cells = {g.get("data-name"): g for g in drawn.iter(f"{SVG}g") if g.get("class") == "of-node"}
    heights = {
        name: [float(rect.get("height", "")) for rect in cell.iter(f"{SVG}rect")]
        for name, cell in cells.items()
    }
    size = heights["z/y/b1"][0]
    assert heights["z/y/b1"] == [size]
    assert heights["z/x/a1"] == [size, size]
    assert heights["z/x/a2"] == [size, pytest.approx(size * 3 / 8)]
    assert heights["z/y/b2"] == [size, size * 2 / 8, size * 6 / 8]
    tips = {name: cell.findtext(f"{SVG}title") or "" for name, cell in cells.items()}
    assert "6 closed cordoned: fans" in tips["z/y/b2"]
    boxes_ = {
        g.get("data-name"): g[0].get("class")
        for g in drawn.iter(f"{SVG}g")
        if g.get("class") == "of-s1"
    }
    assert boxes_ == {"z/x": "domain s1 high", "z/y": "domain s1 medium"}


def test_a_picture_of_strange_names_and_nodes_without_gpus_is_valid() -> None:
    mixed = node("m<&>\x1b", s1="x\x00", s2='"q"')
    mixed = replace(
        mixed, view=replace(mixed.view, gpu_types={0: "H20", 1: "", 2: "L20"}, free=(0,))
    )
    bare = Inventory('<f> & "g"', (mixed, node("none", gpus=0, s1="y")))
    drawn = parsed(svg.draw(tree.grow(bare)))
    assert figures(drawn, "node")["boxes"] == 2
    assert figures(drawn, "node")["gpus"] == 3


def test_no_two_boxes_overlap_and_all_are_in_their_parent() -> None:
    sizes = (1, 3, 7, 2, 30, 5, 5, 11)
    nodes = [
        node(f"n{s}-{i}", s1=f"x{s}", s2=f"z{s % 3}") for s, n in enumerate(sizes) for i in range(n)
    ]
    box = boxes.lay_out(tree.grow(Inventory("f", tuple(nodes))), boxes.sizes_for(len(nodes)))
    for parent, _, _ in box.walk():
        for one in parent.children:
            assert one.x >= 0
            assert one.x + one.width <= parent.width + 1e-6
            assert one.y + one.height <= parent.height + 1e-6
            for other in parent.children:
                apart = (
                    one.x + one.width <= other.x + 1e-6
                    or other.x + other.width <= one.x + 1e-6
                    or one.y + one.height <= other.y + 1e-6
                    or other.y + other.height <= one.y + 1e-6
                )
                assert one is other or apart


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    result = topology("--fleet", fleet_file(tmp_path), "--svg", str(tmp_path / "no" / "x.svg"))
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr
