"""One engine seen by many, and its name."""

from __future__ import annotations

import pytest

from heteroscale.words import Role
from heteroscale_agent.discovery.merge import merge
from heteroscale_agent.discovery.sighting import Sighting, instance_id, ruled, service_of
from heteroscale_agent.hands.process import INSTANCE_ID

P, D, A = Role.PREFILL, Role.DECODE, Role.AGGREGATED


# ---- one engine, seen by many -----------------------------------------------------------------

HERE = {"127.0.0.1", "localhost", "10.0.0.7"}


def test_a_pod_and_its_process_are_one() -> None:
    seen = [
        Sighting("pod:u", "pod/s/a", "10.9.9.9", None, service="chat", ready=True),
        Sighting("pod:u", "pod/u", "10.9.9.9", 8200, role=D, engine="vllm", gpus=(1,), pid=77),
    ]
    (one,) = merge(seen, HERE)
    assert (one.origin, one.port, one.service, one.role) == ("pod/s/a", 8200, "chat", D)
    assert (one.engine, one.gpus, one.pid, one.ready) == ("vllm", (1,), 77, True)


def test_one_address_is_one_engine_by_any_name() -> None:
    seen = [
        Sighting("job:4", "job/4", "", 8000, service="chat"),
        Sighting("pid:7.1", "process/7", "localhost", 8000),
        Sighting("pid:8.1", "process/8", "10.0.0.7", 8000),
        Sighting("pid:9.1", "process/9", "10.9.9.9", 8000),
    ]
    assert [one.origin for one in merge(seen, HERE)] == ["job/4", "process/9"]


def test_two_engines_of_one_job_stay_two() -> None:
    seen = [
        Sighting("job:4", "job/4", "", None, service="chat"),
        Sighting("job:4", "job/4", "", 8000, role=P),
        Sighting("job:4", "job/4", "", 8001, role=D),
    ]
    found = merge(seen, HERE)
    assert [(one.service, one.port, one.role) for one in found] == [
        ("chat", 8000, P),
        ("chat", 8001, D),
    ]


def test_without_any_port_the_usual_one() -> None:
    (one,) = merge([Sighting("pod:u", "pod/s/a", "10.9.9.9", engine="sglang")], HERE)
    assert one.port == 30000


# ---- names ------------------------------------------------------------------------------------


def test_ids_last_and_are_no_one_elses() -> None:
    uid = "0e5b2f3c-7c11-4d3f-9a52-1b2c3d4e5f60"
    ids = [
        instance_id(f"pod:{uid}", 8000, "agent-1", "chat"),
        instance_id(f"pod:{uid}", 8001, "agent-1", "chat"),
        instance_id(f"pod:{uid}", 8000, "agent-2", "chat"),
        instance_id(f"pod:{uid}", 8000, "agent-1", "mail"),
        instance_id("pod:not a uid/..", 8000, "agent-1", "chat"),
        instance_id("job:1234", 8000, "agent-1", "chat"),
        instance_id("pid:12.345", 8000, "agent-1", "boot", "chat"),
    ]
    assert len(set(ids)) == len(ids)
    assert all(INSTANCE_ID.fullmatch(one) for one in ids)
    assert ids[0] == instance_id(f"pod:{uid}", 8000, "agent-1", "chat")
    assert ids[0].startswith(f"pod-{uid}-8000-")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chat", "chat"),
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("a b_c", "a-b-c"),
        ("", ""),
        ("///", ""),
        ("é", ""),
    ],
)
def test_service_names(text: str, name: str) -> None:
    assert service_of(text) == name


def test_rules_give_a_model_its_service() -> None:
    rules = {"qwen3-*": "chat", "/models/x": "mail", "*": "rest"}
    assert ruled(rules, "Qwen/qwen3-8b") == "chat"
    assert ruled(rules, "/models/x") == "mail"
    assert ruled(rules, "") == "rest"
    assert ruled({}, "m") == ""
