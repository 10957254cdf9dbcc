"""get, describe and explain: what a person sees, and what a machine gets."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from google.protobuf import json_format

from heteroscale.convert import duration
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli import fleet
from tests.cli.conftest import Typed
from tests.cli.fleet import service
from tests.cli.twin import OperatorTwin

# Values are made a little before they are read; a slow machine may see them minutes older.
MINUTES = re.compile(r"[3-9]m\d+s")
SECONDS = re.compile(r"\d+s|\dm\d+s")


def rows(text: str) -> list[list[str]]:
    """Split a table at gaps of two and more spaces."""
    return [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()
    ]


def test_services_show_counts_ratio_and_last_action(typed: Typed) -> None:
    result = typed("get", "services")
    assert result.exit_code == 0, result.stderr
    header, row = rows(result.stdout)
    assert header[:7] == ["NAME", "CONDITION", "MODE", "PREFILL", "DECODE", "AGGREGATED", "RATIO"]
    assert row == ["chat", "ready", "auto", "2/2", "3/4", "-", "0.67", "scale_out", row[-1]]
    assert MINUTES.fullmatch(row[-1])


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (("services", "service", "svc", "SVC"), "chat"),
        (("instances", "instance", "inst"), "aa11bb"),
        (("nodes", "node", "no"), "node-1"),
        (("groups", "group", "grp"), "chat-0"),
        (("clusters", "cluster", "clu"), "east"),
        (("decisions", "decision", "dec"), SECONDS),
    ],
)
def test_every_kind_has_three_names(
    typed: Typed, words: tuple[str, ...], first: str | re.Pattern[str]
) -> None:
    for word in words:
        result = typed("get", word)
        assert re.fullmatch(first, rows(result.stdout)[1][0])


def test_unknown_readings_are_question_marks_and_never_zero(typed: Typed) -> None:
    row = rows(typed("get", "inst", "aa11bb").stdout)[1]
    assert row[6:9] == ["3", "?", "?"]
    node = rows(typed("get", "node", "node-2").stdout)[1]
    assert node == ["node-2", "gpu-host-2", "silent", "L20", "0/8", "?", "?", "?", "?", "?"]


def test_columns_are_aligned(typed: Typed) -> None:
    lines = typed("get", "inst").stdout.splitlines()
    at = lines[0].index("GPU ")
    assert [line[at : at + 4] for line in lines[1:]] == ["H20 ", "H20 "]
    assert all(line == line.rstrip() for line in lines)
    assert "withdrawn (soft_scale_in)" in lines[2]


def test_wide_adds_columns_at_the_end(typed: Typed) -> None:
    narrow, wide = (rows(typed("get", "svc", "-o", form).stdout) for form in ("table", "wide"))
    assert wide[0][: len(narrow[0])] == narrow[0]
    assert "decode_tps 1834 tok/s, ttft ? (missing)" in wide[1]


def test_json_keeps_the_field_names_and_leaves_unknown_out(typed: Typed) -> None:
    answer = json.loads(typed("get", "instances", "-o", "json").stdout)
    first = answer["instances"][0]
    assert first["instance_id"] == "aa11bb"
    assert first["state"] == "INSTANCE_STATE_IN_SERVICE"
    assert first["running"] == 3.0
    assert "waiting" not in first
    assert first["message"] == ""


def test_one_item_is_printed_bare_in_json_and_yaml(typed: Typed) -> None:
    service = json.loads(typed("get", "svc", "chat", "-o", "json").stdout)
    assert service["last_decision"]["decode_delta"] == 2
    node = yaml.safe_load(typed("get", "node", "gpu-host-1", "-o", "yaml").stdout)
    assert node["agent_id"] == "node-1"
    assert node["gpus_used"] == 4


def test_json_round_trips_into_the_message(typed: Typed, twin: OperatorTwin) -> None:
    text = typed("get", "services", "-o", "json").stdout
    assert json_format.Parse(text, pb.ListServicesResponse()).services[0] == twin.services["chat"]


def test_service_and_limit_narrow_the_request(typed: Typed, twin: OperatorTwin) -> None:
    typed("get", "inst", "-s", "chat")
    assert twin.requests[-1] == pb.ListInstancesRequest(service="chat", page_size=1000)
    typed("get", "dec", "chat", "-n", "1")
    assert twin.requests[-1] == pb.ListDecisionsRequest(service="chat", page_size=1)


def test_decisions_show_age_step_and_repeats(typed: Typed) -> None:
    _, hold, out = rows(typed("get", "decisions").stdout)
    assert hold[1:6] == ["chat", "hold", "-", "demand", "14"]
    assert MINUTES.fullmatch(out[0])
    assert out[1:6] == ["chat", "scale_out", "+1P +2D", "demand", "1"]


def test_nothing_found_is_said_beside_the_table(typed: Typed, twin: OperatorTwin) -> None:
    twin.services.clear()
    result = typed("get", "services")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No services found.\n"
    assert json.loads(typed("get", "services", "-o", "json").stdout) == {"services": []}


def test_the_beginning_of_an_id_is_enough_when_it_fits_one(typed: Typed) -> None:
    assert "aa22cc" in typed("get", "inst", "aa2").stdout
    several = typed("get", "inst", "aa")
    assert several.exit_code == 1
    assert several.stderr == "error: instance 'aa' fits 2: aa11bb, aa22cc\n"
    assert "not found" in typed("get", "inst", "zz").stderr


def test_two_agents_on_one_host_are_told_apart(typed: Typed, twin: OperatorTwin) -> None:
    twin.nodes[1].hostname = "gpu-host-1"
    result = typed("describe", "node", "gpu-host-1")
    assert result.exit_code == 1
    assert "fits 2: node-1, node-2" in result.stderr


def test_groups_of_one_name_are_told_apart_by_service(typed: Typed, twin: OperatorTwin) -> None:
    twin.groups[1].name, twin.groups[1].service = "chat-0", "code"
    assert "fits 2: chat-0 of chat, chat-0 of code" in typed("get", "grp", "chat-0").stderr
    assert typed("get", "grp", "chat-0", "-s", "code").exit_code == 0


def test_control_characters_of_a_host_do_not_reach_the_terminal(
    typed: Typed, twin: OperatorTwin
) -> None:
    twin.nodes[0].hostname = "evil\x1b[2J\nhost"
    twin.instances["aa11bb"].message = "a\x07\nb"
    assert "evil [2J host" in typed("get", "nodes").stdout
    for result in (typed("get", "nodes"), typed("describe", "instance", "aa11bb")):
        assert "\x1b" not in result.stdout
        assert "\x07" not in result.stdout


def test_describe_service_tells_everything(typed: Typed) -> None:
    text = typed("describe", "service", "chat").stdout
    for part in ("Condition:  ready", "Roles:", "Load:", "ttft", "missing", "aa22cc", "+1P +2D"):
        assert part in text, part
    assert "apiVersion: heteroscale/v1" in text


def test_describe_service_shows_its_routers(typed: Typed, twin: OperatorTwin) -> None:
    url = "http://10.0.0.9:29000"
    heard = pb.RouterStatus(
        name="front", url=url, quality="ok", agent_id="node-1", age=duration(2.0)
    )
    never = pb.RouterStatus(name="side", url="http://10.0.0.8:1", quality="missing")
    assert "Routers:" not in typed("describe", "service", "chat").stdout
    twin.services["chat"] = service(routers=[heard, never])
    lines = typed("describe", "service", "chat").stdout.splitlines()
    start = lines.index("Routers:")
    assert lines[start + 1].split() == ["NAME", "URL", "QUALITY", "AGE", "TOLD", "BY"]
    assert lines[start + 2].split() == ["front", url, "ok", "2s", "node-1"]
    assert lines[start + 3].split()[:4] == ["side", "http://10.0.0.8:1", "missing", "?"]


def test_describe_service_in_quarantine_says_why(typed: Typed, twin: OperatorTwin) -> None:
    twin.services["chat"].quarantine = "step raised: division by zero"
    text = typed("describe", "svc", "chat").stdout
    assert "Quarantine:  step raised: division by zero" in text
    assert "quarantined" in typed("get", "svc").stdout


def test_describe_instance_and_node(typed: Typed) -> None:
    text = typed("describe", "instance", "aa22").stdout
    assert re.search(r"State: +withdrawn \(soft_scale_in\) for [3-9]m\d+s", text)
    assert "Tokens/s:    ?" in text
    node = typed("describe", "node", "node-1").stdout
    assert "GPUs:             4 of 8 used, H20" in node
    assert "Engine versions:  chat-decode 0.5.20, chat-prefill 0.5.21" in node
    assert re.search("s1 +minipod-0 +configuration", node)
    assert "aa11bb" in node


def section(text: str, title: str) -> list[list[str]]:
    """Return the cells of a section's table."""
    after = text.split(f"\n{title}:\n")[1].split("\n\n", maxsplit=1)[0]
    return [re.split(r" {3,}", line.strip()) for line in after.splitlines()]


def test_describe_node_shows_each_gpu_and_leaves_out_what_none_tells(typed: Typed) -> None:
    header, first, second = section(typed("describe", "node", "node-1").stdout, "GPUs")
    shown = dict(zip(header, first, strict=True))
    assert shown == {
        "GPU": "0",
        "TYPE": "H20",
        "NUMA": "0",
        "UTIL%": "71",
        "SM%": "44",
        "MEM-GIB": "48/96",
        "°C": "61",
        "MHZ": "1830",
        "THROTTLE": "power,heat",
        "ECC": "0",
        "XID": "79 (×2)",
        "HEALTH": "ok",
        "INSTANCE": "aa11bb",
        "NEAREST-PORT": "mlx5_0 pix",
    }
    assert dict(zip(header, second, strict=True))["SM%"] == "?"
    assert dict(zip(header, second, strict=True))["HEALTH"] == "lost"


def test_describe_node_shows_each_port(typed: Typed) -> None:
    header, first, second = section(typed("describe", "node", "node-1").stdout, "RDMA ports")
    shown = dict(zip(header, first, strict=True))
    assert shown == {
        "PORT": "mlx5_0",
        "LINK": "active",
        "LAYER": "InfiniBand",
        "RAIL": "0",
        "NUMA": "0",
        "GBIT/S": "200 of 400",
        "SHARE%": "62.5",
        "FLAPS": "1",
        "ERRORS": "3",
        "WAIT-TICKS": "900",
        "RESENT": "12",
    }
    down = dict(zip(header, second, strict=True))
    assert (down["LINK"], down["GBIT/S"], down["SHARE%"]) == ("down", "400", "?")


def test_a_nodes_troubles_are_told(typed: Typed) -> None:
    text = typed("describe", "node", "node-1").stdout
    assert "Troubles:\n  GPU 1 lost\n  RDMA port down: mlx5_1\n" in text
    assert "1/2 active, busiest at 62.5 %" in text
    header, node, _ = rows(typed("get", "nodes", "-o", "wide").stdout)
    shown = dict(zip(header, node, strict=False))
    assert (shown["HEALTH"], shown["NICS"], shown["NIC%"]) == ("GPU 1 lost (+1)", "1/2", "62.5")


def test_a_node_without_devices_says_none(typed: Typed) -> None:
    text = typed("describe", "node", "node-2").stdout
    assert "GPUs:\n  none\n" in text
    assert "Troubles" not in text


def test_devices_come_only_with_one_node(typed: Typed) -> None:
    every = json.loads(typed("get", "nodes", "-o", "json").stdout)
    assert [node["gpus"] for node in every["nodes"]] == [[], []]
    node = json.loads(typed("get", "node", "node-1", "-o", "json").stdout)
    assert node["gpus"][0]["last_xid"] == 79
    assert "rail" not in node["nics"][1]


def test_describe_knows_three_kinds(typed: Typed) -> None:
    assert typed("describe", "group", "chat-0").exit_code == 2


def test_explain_prints_the_coordinators_own_lines(typed: Typed) -> None:
    assert typed("explain", "chat").stdout == "It scales in below R 0.90.\n"


def test_explain_before_the_first_decision(typed: Typed, twin: OperatorTwin) -> None:
    twin.services["new"] = fleet.service(name="new", last_decision=pb.Decision())
    assert typed("explain", "new").stdout == "new: nothing has been decided yet\n"


def test_explain_as_json(typed: Typed) -> None:
    answer = json.loads(typed("explain", "chat", "-o", "json").stdout)
    assert answer["decision"]["inputs"]["R"] == "3600 / 2000 = 1.80"


def test_a_state_of_a_newer_coordinator_is_unknown(typed: Typed, twin: OperatorTwin) -> None:
    twin.instances["aa11bb"].state = 99  # type: ignore[assignment]
    twin.instances["aa11bb"].role = types.ROLE_UNSPECIFIED
    assert rows(typed("get", "inst", "aa11bb").stdout)[1][2:4] == ["?", "?"]


def test_clusters_show_who_is_down_since_when_and_what_counts_there(typed: Typed) -> None:
    header, east, bare = rows(typed("get", "clusters").stdout)
    assert header == ["NAME", "BY", "STATE", "SINCE", "NODES", "USED", "INSTANCES", "NOTES"]
    assert east == ["east", "adapter", "down", east[3], "0/2", "3/16", "3", "1"]
    assert MINUTES.fullmatch(east[3])
    assert bare == ["(without a name)", "agents", "up", "?", "1/1", "0/8", "0", "0"]
    _, wide, _ = rows(typed("get", "clu", "-o", "wide").stdout)
    assert wide[8:] == [
        "H20: 12, service chat: 6, any: 8 by its own word",
        "world: no answer within 10 s",
    ]
    told = json.loads(typed("get", "clusters", "east", "-o", "json").stdout)
    assert (told["state"], told["instances"], len(told["notes"])) == ("down", {"chat": 3}, 1)


def test_a_described_cluster_shows_its_notes_one_by_one(typed: Typed, twin: OperatorTwin) -> None:
    shown = typed("describe", "cluster", "east").stdout
    assert re.search(r"State: +down for \dm\d+s", shown)
    assert re.search(r"Nodes: +0 of 2 heard", shown)
    assert re.search(r"Prices: +H20 2.1", shown)
    assert re.search(r"Instances: +chat 3", shown)
    assert "Notes:\n  orphan i-9: no service 'old' is known here" in shown
    del twin.clusters[0].notes[:]
    assert typed("describe", "cluster", "east").stdout.endswith("Notes:\n  none\n")
    absent = typed("describe", "cluster", "nope")
    assert "cluster 'nope' not found" in absent.stderr


def test_clusters_cannot_be_watched(typed: Typed) -> None:
    assert "clusters cannot be watched: watch their nodes" in typed("get", "clu", "-w").stderr
