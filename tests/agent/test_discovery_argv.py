"""What command lines and environments say of an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_agent.discovery.argv import Recognised, recognise, recognise_command
from heteroscale_agent.discovery.gpus import held

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
