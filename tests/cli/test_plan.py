"""plan: where instances would go on a fleet's file and on the live one, why, and why not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heteroscale.words import Role
from heteroscale_cli.app import app
from heteroscale_cli.placing import inventory, planning
from heteroscale_cli.placing.planning import Asked
from heteroscale_coordinator.core.placement import Ask, place
from tests.cli.drawn import SVG, figures, parsed
from tests.cli.fleets import CHAT, FLEET, fleet_file, service_file, spec_of


def plan(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["plan", *words], input=stdin)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Return the options that name a service and a fleet."""
    return ("-f", service_file(tmp_path), "--fleet", fleet_file(tmp_path))


def data(*words: str) -> Any:
    return json.loads(plan(*words, "--json").stdout)


# ---- it fits -----------------------------------------------------------------------------------


def test_without_counts_the_min_is_placed_and_told_with_its_reason(files: tuple[str, ...]) -> None:
    result = plan(*files)
    assert result.exit_code == 0, result.stderr
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "chat: 2 prefill and 3 decode fit on east"
    assert "opens chat@s1=hall-s1-1 (high class) by 3 decode on H20 and 2 prefill on H100" in lines
    assert "s1 hall-s1-2: fits, but is equal, later by name" in lines


def test_the_picture_has_a_letter_for_each_gpu(files: tuple[str, ...]) -> None:
    shown = [line.split() for line in plan(*files).stdout.splitlines()]
    assert ["├", "h20-1", "DDDDDDDD", "H20", "1", "decode", "high", "8", "→", "0"] in [
        [word for word in line if word != "│"] for line in shown
    ]
    assert ["└", "h100-1", "PPPPPPPP", "H100", "2", "prefill", "high", "8", "→", "0"] in shown
    assert "l20-01" not in plan(*files).stdout


def test_nodes_that_are_alike_are_one_line(files: tuple[str, ...]) -> None:
    text = plan(*files, "--decode", "4", "--prefill", "1").stdout
    assert "4 nodes h20-1 … h20-4" in text
    assert "PPPP░░░░ H100" in text


def test_json_names_every_gpu_with_its_place(files: tuple[str, ...]) -> None:
    (service,) = data(*files)["services"]
    assert (service["service"], service["feasible"]) == ("chat", True)
    assert service["asked"] == {"prefill": 2, "decode": 3}
    assert service["affinity"] == {"wished": "s1", "required": False, "met": "s1"}
    first = next(one for one in service["instances"] if one["role"] == "prefill")
    assert first["gpu_type"] == "H100"
    (rank,) = first["ranks"]
    assert (rank["agent_id"], rank["gpus"], rank["class"]) == ("h100-1", [0, 1, 2, 3], "high")
    assert rank["topology"]["s2"] == "hall-s2-1"


def test_it_is_what_the_coordinators_own_placement_says(tmp_path: Path) -> None:
    known = inventory.of_file(Path(fleet_file(tmp_path)))
    spec = spec_of(CHAT)
    made = planning.make(known, [Asked("chat", spec, {Role.PREFILL: 1, Role.DECODE: 2})])
    views = [replace(node.view, templates=frozenset({"p", "d"})) for node in known.nodes]
    ask = Ask("chat", spec.roles, {Role.PREFILL: 1, Role.DECODE: 2}, spec.placement)
    assert made.services[0].found == place(ask, views, ())


def test_ranks_are_drawn_on_their_nodes(tmp_path: Path) -> None:
    text = CHAT.replace("gpus: 8, min: 3", "gpus: 8, ranks: 2, min: 3")
    result = plan("-f", service_file(tmp_path, text), "--fleet", fleet_file(tmp_path))
    assert "4 decode rank" in result.stdout


def test_services_are_placed_by_priority_and_leave_the_rest(tmp_path: Path) -> None:
    first = CHAT.replace("name: chat", "name: low")
    second = CHAT.replace("name: chat", "name: urgent") + "  priority: 9\n"
    low = service_file(tmp_path, first, "a.yaml")
    high = service_file(tmp_path, second, "b.yaml")
    fleet = fleet_file(tmp_path)
    made = data("-f", low, "-f", high, "--fleet", fleet)
    assert [one["service"] for one in made["services"]] == ["urgent", "low"]
    taken = [
        (rank["agent_id"], gpu)
        for one in made["services"]
        for spot in one["instances"]
        for rank in spot["ranks"]
        for gpu in rank["gpus"]
    ]
    assert len(taken) == len(set(taken)) == 2 * (2 * 4 + 3 * 8)
    text = plan("-f", low, "-f", high, "--fleet", fleet).stdout
    assert "2 of 2 services have a place on east." in text


def test_a_folder_and_standard_input_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    service_file(folder)
    fleet = fleet_file(tmp_path)
    assert plan("-f", str(folder), "--fleet", fleet).exit_code == 0
    assert plan("-f", "-", "--fleet", fleet, stdin=CHAT).exit_code == 0


def test_the_picture_frames_what_is_new(files: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "plan.svg"
    assert plan(*files, "--svg", str(file)).exit_code == 0
    drawn = parsed(file.read_text())
    assert drawn.findtext(f"{SVG}title") == "Plan of chat on east"
    new = {
        group.get("data-name", "").rpartition("/")[2]: int(group.get("data-new", ""))
        for group in drawn.iter(f"{SVG}g")
        if group.get("data-new")
    }
    taken = data(*files)["services"][0]["instances"]
    by_node = Counter[str]()
    for rank in (rank for one in taken for rank in one["ranks"]):
        by_node[rank["agent_id"]] += len(rank["gpus"])
    assert new == by_node
    assert figures(drawn, "node")["held"] == sum(new.values())
    words = [text.text for text in drawn.iter(f"{SVG}text")]
    assert "new decode (D): 24 GPUs" in words
    assert words.count("D") == 3
    tips = [tip.text or "" for tip in drawn.iter(f"{SVG}title")]
    assert sum("new prefill: 8 GPUs" in tip for tip in tips) == 1


def test_a_strip_too_thin_for_its_letter_has_it_above(tmp_path: Path) -> None:
    thin = CHAT.replace("gpus: 4", "gpus: 1")
    file = tmp_path / "plan.svg"
    words = ("-f", service_file(tmp_path, thin), "--fleet", fleet_file(tmp_path))
    assert plan(*words, "--prefill", "1", "--decode", "1", "--svg", str(file)).exit_code == 0
    letters = {
        (text.text, text.get("class"))
        for text in parsed(file.read_text()).iter(f"{SVG}text")
        if text.text in ("P", "D")
    }
    assert letters == {("P", "beside"), ("D", "letter")}


def test_counts_of_nothing_are_said_as_such(files: tuple[str, ...]) -> None:
    none = plan(*files, "--prefill", "0", "--decode", "0")
    assert (none.exit_code, none.stdout) == (0, "chat: nothing to place: all counts are 0.\n")


# ---- it does not -------------------------------------------------------------------------------


def test_no_place_is_told_level_by_level_with_what_would_help(files: tuple[str, ...]) -> None:
    result = plan(*files, "--prefill", "9", "--decode", "3")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "chat: no place on east for 9 prefill and 3 decode" in result.stdout
    for level in ("s1 hall-s1-1", "s2 hall-s2-1", "cluster hall-cluster-1"):
        assert f"{level}: " in result.stdout
    assert "a smaller step: 8 prefill and 2 decode would fit" in result.stdout
    assert "new nodes below s1 hall-s1-1: 1 of H100 with 8 GPUs" in result.stdout
    (service,) = data(*files, "--prefill", "9", "--decode", "3")["services"]
    assert not service["feasible"]
    assert {one["kind"] for one in service["remedies"]} >= {"smaller", "types", "nodes"}
    assert service["reasons"][0].startswith("s1 hall-s1-1: 16 of 16 GPUs free of type H100")


def test_a_type_that_the_fleet_does_not_have_is_named_with_its_field(tmp_path: Path) -> None:
    text = CHAT.replace("[H100]", "[H2O]")
    result = plan("-f", service_file(tmp_path, text), "--fleet", fleet_file(tmp_path))
    assert result.exit_code == 1
    said = "spec.roles.prefill.gpuTypes: the fleet has no H2O; it has H100, H20, L20"
    assert said in result.stdout


def test_nothing_that_helps_is_said_plainly(tmp_path: Path) -> None:
    text = CHAT.replace("gpus: 4", "gpus: 9")
    result = plan("-f", service_file(tmp_path, text), "--fleet", fleet_file(tmp_path))
    assert "nothing that was tried" in result.stdout


def test_what_bounds_would_forbid_is_a_note(files: tuple[str, ...], tmp_path: Path) -> None:
    text = CHAT + "  maxGpus: 40\n"
    beyond = ("-f", service_file(tmp_path, text, "b.yaml"), *files[2:])
    notes = data(*beyond, "--prefill", "1", "--decode", "20")["services"][0]["notes"]
    assert notes == [
        "spec.roles.decode.max is 16: 20 would be above it",
        "spec.maxGpus is 40: 164 GPUs would be above it",
        "spec.ratio allows 5 to 20 prefill beside 20 decode; it would be 1",
    ]
    fixed = CHAT.replace("{min: 0.25, max: 1}", '"1:2"')
    words = ("-f", service_file(tmp_path, fixed, "c.yaml"), *files[2:], "--decode", "4")
    notes = data(*words, "--prefill", "1")["services"][0]["notes"]
    assert notes == ["spec.ratio allows 2 prefill beside 4 decode; it would be 1"]
    assert "spec.ratio allows 2 prefill" in plan(*words, "--prefill", "1").stdout


# ---- wrong usage -------------------------------------------------------------------------------


def test_a_role_that_the_service_does_not_have_is_named(files: tuple[str, ...]) -> None:
    result = plan(*files, "--aggregated", "2")
    assert result.exit_code == 2
    assert "--aggregated: chat has no such role; it has --prefill and --decode" in result.stderr


def test_counts_are_for_one_service(tmp_path: Path) -> None:
    both = CHAT + "---\n" + CHAT.replace("name: chat", "name: other")
    result = plan("-f", service_file(tmp_path, both), "--fleet", "x.yaml", "--decode", "2")
    assert result.exit_code == 2
    assert "--decode: of 2 services; give counts with one service only" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHAT.replace("gpus: 4", "gpus: none"), "spec.roles.prefill.gpus"),
        (CHAT + "---\n" + CHAT, "service 'chat' is given twice"),
        ("# nothing\n", "one of kind Service is due"),
        (FLEET, "kind"),
    ],
)
def test_a_wrong_document_is_told(tmp_path: Path, text: str, said: str) -> None:
    result = plan("-f", service_file(tmp_path, text), "--fleet", fleet_file(tmp_path))
    assert result.exit_code == 2
    assert said in result.stderr


def test_defragmentation_is_of_the_live_fleet(files: tuple[str, ...]) -> None:
    for words in (("--defragment", *files), ("--defragment", *files[2:])):
        result = plan(*words)
        assert result.exit_code == 2
        assert "leave the rest out" in result.stderr
    result = plan()
    assert result.exit_code == 2
    assert "give a service by its name, or with -f FILE" in result.stderr
    assert plan("chat", *files).exit_code == 2
