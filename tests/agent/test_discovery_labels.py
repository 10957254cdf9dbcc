"""What labels of pods and comments of jobs say of an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heteroscale.words import Role
from heteroscale_agent.config.discovery import PodKeys
from heteroscale_agent.discovery.jobs import from_json, from_text
from heteroscale_agent.discovery.pods import sighting
from heteroscale_agent.discovery.sighting import Sighting
from heteroscale_agent.probes.source import SourceError
from tests.agent.kube_twin import pod

P, D, A = Role.PREFILL, Role.DECODE, Role.AGGREGATED


# ---- pods -------------------------------------------------------------------------------------


def see(**more: Any) -> Sighting:
    found = sighting(pod("chat-0", **more), PodKeys())
    assert found is not None
    return found


def test_a_plainly_labelled_pod() -> None:
    labels = {"heteroscale.io/service": "chat", "heteroscale.io/role": "decode"}
    labels |= {"heteroscale.io/port": "8200", "heteroscale.io/engine": "sglang"}
    found = see(labels=labels, uid="u-1", annotations={"heteroscale.io/metrics-path": "/m"})
    assert found == Sighting(
        owner="pod:u-1",
        origin="pod/serving/chat-0",
        host="127.0.0.1",
        port=8200,
        service="chat",
        role=D,
        engine="sglang",
        metrics_path="/m",
        ready=True,
    )


@pytest.mark.parametrize(("label", "role"), [("prefill", P), ("decode", D), ("both", A)])
def test_a_pod_of_llm_d(label: str, role: Role) -> None:
    command = ["vllm", "serve", "Qwen/Qwen3-8B", "--port", "8200"]
    labels = {"llm-d.ai/role": label, "llm-d.ai/model": "Qwen3-8B"}
    found = see(labels=labels, command=command, container_port=8000)
    assert (found.role, found.service, found.port) == (role, "qwen3-8b", 8200)


def test_a_pod_of_the_production_stack() -> None:
    command = ["vllm", "serve", "facebook/opt-125m", "--host", "0.0.0.0", "--port", "8000"]
    found = see(labels={"model": "opt125m", "environment": "router"}, command=command)
    assert (found.service, found.role, found.engine) == ("opt125m", A, "vllm")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"labels": {"model": "x"}},
        {"labels": {"heteroscale.io/service": "chat"}},
        {"command": ["nginx"]},
        {"command": ["vllm", "serve", "m"], "phase": "Succeeded"},
        {"command": ["vllm", "serve", "m"], "phase": "Failed"},
        {"command": ["vllm", "serve", "m"], "ip": ""},
    ],
)
def test_pods_that_are_no_engines(more: dict[str, Any]) -> None:
    assert sighting(pod("x", **more), PodKeys()) is None


def test_a_pods_life() -> None:
    command = ["vllm", "serve", "m"]
    assert see(command=command, ready=False).ready is False
    assert see(command=command, phase="Pending").ready is False
    assert see(command=command, leaving=True).leaving
    assert see(command=command, ip="fd00::7").host == "[fd00::7]"
    assert see(command=command, container_port=8005).port == 8005


@pytest.mark.parametrize(
    "odd", [{}, {"metadata": None}, {"metadata": {"uid": "u"}, "spec": [], "status": {"podIP": 4}}]
)
def test_objects_that_are_no_pods(odd: dict[str, Any]) -> None:
    assert sighting(odd, PodKeys()) is None


# ---- jobs -------------------------------------------------------------------------------------

WORD = "heteroscale:service=chat,role=decode,port=8000,engine=vllm"


def line(job: str, state: str, name: str, comment: str) -> str:
    return f"{job}\x1f{state}\x1fnode1\x1f{name}\x1f{comment}\n"


def test_jobs_by_comment_and_by_name() -> None:
    text = line("7", "RUNNING", "x | y", WORD) + line("8", "RUNNING", WORD, "")
    found = list(from_text(text + line("9", "RUNNING", "training", "(null)"), "node1"))
    assert [one.origin for one in found] == ["job/7", "job/8"]
    one = found[0]
    assert (one.service, one.role, one.port, one.engine) == ("chat", D, 8000, "vllm")


def test_jobs_that_wait_or_end_are_no_engines() -> None:
    text = line("7", "PENDING", "", WORD) + line("8", "CANCELLED", "", WORD) + "garbage\n"
    assert list(from_text(text, "node1")) == []
    (leaving,) = from_text(line("9", "COMPLETING", "", WORD), "node1")
    assert leaving.leaving


def test_several_engines_in_one_job() -> None:
    said = (
        "heteroscale:service=chat,role=prefill,port=1 heteroscale:service=chat,role=decode,port=2"
    )
    found = list(from_text(line("7", "RUNNING", "", said), "node1"))
    assert [(one.role, one.port) for one in found] == [(P, 1), (D, 2)]


def test_a_word_for_one_node_of_many() -> None:
    said = f"{WORD},node=node[2-3]"
    assert list(from_text(line("7", "RUNNING", "", said), "node1")) == []
    assert len(list(from_text(line("7", "RUNNING", "", said), "node3"))) == 1


OLD = {"job_id": 7, "job_state": "RUNNING", "name": "x", "comment": WORD, "nodes": "node1"}
NEW = {**OLD, "job_state": ["RUNNING"], "job_id": 7}


@pytest.mark.parametrize("job", [OLD, NEW, {**OLD, "comment": {"job": WORD, "system": ""}}])
def test_json_of_either_age(job: dict[str, Any]) -> None:
    job = {**job, "gres_detail": ["gpu:h100:3(IDX:0-1,6)"]}
    (found,) = from_json(json.dumps({"jobs": [job]}), "node1")
    assert (found.origin, found.port, found.gpus) == ("job/7", 8000, (0, 1, 6))
    (elsewhere,) = from_json(json.dumps({"jobs": [{**job, "nodes": "node[1-2]"}]}), "node1")
    assert elsewhere.gpus is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"jobs"'])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(SourceError):
        list(from_json(text, "node1"))


def test_odd_json_is_survived() -> None:
    jobs = [None, 4, {}, {"job_id": {"set": True}, "job_state": []}, {**OLD, "gres_detail": [4]}]
    found = list(from_json(json.dumps({"jobs": jobs}), "node1"))
    assert [one.gpus for one in found] == [None]
