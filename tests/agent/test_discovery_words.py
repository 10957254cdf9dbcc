"""What command lines, labels, comments and environments say of an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_agent.config.discovery import PodKeys
from heteroscale_agent.discovery.argv import Recognised, recognise, recognise_command
from heteroscale_agent.discovery.gpus import held
from heteroscale_agent.discovery.jobs import from_json, from_text
from heteroscale_agent.discovery.merge import merge
from heteroscale_agent.discovery.pods import sighting
from heteroscale_agent.discovery.sighting import Sighting, instance_id, ruled, service_of
from heteroscale_agent.hands.process import INSTANCE_ID
from heteroscale_agent.probes.source import SourceError
from tests.agent.kube_twin import pod

P, D, A = Role.PREFILL, Role.DECODE, Role.AGGREGATED
KV = '{"kv_connector":"NixlConnector","kv_role":"%s"}'

# ---- command lines ----------------------------------------------------------------------------

COMMANDS = [
    (
        ["vllm", "serve", "Qwen/Qwen3-8B", "--port", "8100"],
        Recognised("vllm", "", 8100, "Qwen/Qwen3-8B", A),
    ),
    (
        ["/usr/bin/python3.12", "/opt/venv/bin/vllm", "serve", "m", "--host=127.0.0.1"],
        Recognised("vllm", "127.0.0.1", None, "m", A),
    ),
    (
        [
            *("python3", "-u", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/x"),
            *("--served-model-name", "chat", "--kv_transfer_config", KV % "kv_producer"),
        ],
        Recognised("vllm", "", None, "chat", P),
    ),
    (
        ["vllm", "serve", "m", "--kv-transfer-config", KV % "kv_consumer", "--host", "0.0.0.0"],
        Recognised("vllm", "", None, "m", D),
    ),
    (
        ["vllm", "serve", "m", "--kv-transfer-config", KV % "kv_both"],
        Recognised("vllm", "", None, "m", A),
    ),
    (
        ["vllm", "serve", "m", "--kv-transfer-config.kv_role", "kv_producer"],
        Recognised("vllm", "", None, "m", P),
    ),
    (
        [
            *("python", "-m", "sglang.launch_server", "--model-path=/m/q", "--port=30001"),
            *("--disaggregation-mode", "decode", "--host", "10.0.0.7"),
        ],
        Recognised("sglang", "10.0.0.7", 30001, "/m/q", D),
    ),
    (
        ["sglang", "serve", "--model-path", "q", "--disaggregation-mode", "prefill"],
        Recognised("sglang", "127.0.0.1", None, "q", P),
    ),
    (
        ["/usr/local/bin/llama-server", "-m", "/m/tiny.gguf", "--port", "8081", "--metrics"],
        Recognised("llamacpp", "127.0.0.1", 8081, "/m/tiny.gguf", A),
    ),
    (
        ["llama-server", "-m", "t.gguf", "--alias", "tiny", "--host", "::"],
        Recognised("llamacpp", "", None, "tiny", A),
    ),
    (
        ["python3", "/usr/local/bin/trtllm-serve", "serve", "nvidia/x", "--port", "8005"],
        Recognised("tensorrt-llm", "127.0.0.1", 8005, "nvidia/x", A),
    ),
    (
        ["trtllm-serve", "x", "--host", "0.0.0.0", "--server_role", "CONTEXT"],
        Recognised("tensorrt-llm", "", None, "x", P),
    ),
    (
        ["text-generation-launcher", "--model-id", "x", "-p", "8080"],
        Recognised("tgi", "", 8080, "x", A),
    ),
]


@pytest.mark.parametrize(("argv", "told"), COMMANDS)
def test_engines_are_recognised(argv: list[str], told: Recognised) -> None:
    assert recognise(argv) == told


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [""],
        ["bash", "-c", "vllm serve m"],
        ["srun", "vllm", "serve", "m"],
        ["vllm", "bench", "serve"],
        ["vllm"],
        ["python3"],
        ["python3", "-m"],
        ["python3", "-c", "import vllm"],
        ["python3", "-m", "sglang_router.launch_router"],
        ["trtllm-serve", "disaggregated", "-c", "x.yaml"],
        ["VLLM::EngineCore"],
        ["vim", "vllm"],
        ["sglang::scheduler"],
    ],
)
def test_others_are_not(argv: list[str]) -> None:
    assert recognise(argv) is None


def test_a_launchers_port_can_stand_in_the_environment() -> None:
    found = recognise(["text-generation-launcher", "--model-id", "x"], {"PORT": "80"})
    assert found is not None
    assert found.port == 80


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "８０００", "8000.5", "99999999999"])
def test_a_port_that_is_none(port: str) -> None:
    found = recognise(["vllm", "serve", "m", f"--port={port}"])
    assert found is not None
    assert found.port is None


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve m --port 8200",
        "set -e\nexport A=1\nexec /opt/bin/vllm serve m \\\n  --port 8200 2>&1 | tee log",
        "sleep 1 && python3 -m vllm.entrypoints.openai.api_server --model m --port 8200",
    ],
)
def test_a_containers_shell_is_looked_into(script: str) -> None:
    found = recognise_command(["/bin/bash", "-c", script])
    assert found is not None
    assert (found.engine, found.port, found.model) == ("vllm", 8200, "m")


def test_a_shell_without_an_engine() -> None:
    assert recognise_command(["sh", "-c", "echo 'unfinished\nnginx -g daemon"]) is None


@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_words_are_survived(words: list[str]) -> None:
    for argv in (words, ["vllm", "serve", *words], ["sh", "-c", *words]):
        assert recognise_command(argv) is None or argv


# ---- GPUs -------------------------------------------------------------------------------------

UUIDS = {f"GPU-{letter * 8}": index for index, letter in enumerate("abcdefgh")}


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bbbbbbbb,GPU-cc"}, (1, 2)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-unknown"}, None),
        ({"CUDA_VISIBLE_DEVICES": "GPU-"}, None),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1/2"}, None),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, None),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ()),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-dddddddd,GPU-eeeeeeee"}, (3, 4)),
        (
            {"NVIDIA_VISIBLE_DEVICES": "GPU-dddddddd,GPU-eeeeeeee", "CUDA_VISIBLE_DEVICES": "1"},
            (4,),
        ),
        ({"SLURM_JOB_GPUS": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "4,5,6,7"}, (4, 5, 6, 7)),
        ({"SLURM_JOB_GPUS": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "6"}, (6,)),
        ({"SLURM_JOB_GPUS": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "0,1"}, (4, 5)),
        ({"SLURM_JOB_GPUS": "4,5", "CUDA_VISIBLE_DEVICES": "0,9"}, (4, 5)),
        ({"SLURM_JOB_GPUS": "0,1,2,3", "SLURM_STEP_GPUS": "2"}, (2,)),
        ({"SLURM_JOB_GPUS": "1,2"}, (1, 2)),
    ],
)
def test_gpus_by_environment(environ: dict[str, str], gpus: tuple[int, ...] | None) -> None:
    assert held(environ, UUIDS) == gpus


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
