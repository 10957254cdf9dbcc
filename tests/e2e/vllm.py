"""vLLM as the examples start it, on CPU: the templates of `examples/agent-vllm.yaml` and little else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from heteroscale_workbench import tiny_model
from tests.e2e.stage import MODEL, Engine

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "agent-vllm.yaml"
PYTHON = Path(os.environ.get("HETEROSCALE_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
OPTIONS = ("--dtype=float32", "--max-model-len=4096", "--enforce-eager", "--block-size=128")
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # A thread that has nothing to do sleeps: several engines share two cores.
    "KMP_BLOCKTIME": "0",
    # NIXL's transport, between processes of one host.
    "UCX_TLS": "tcp,sm,self",
    "UCX_NET_DEVICES": "lo",
}
_KV = "--kv-transfer-config="


def engine(folder: Path, *, kv_lease: int = 30) -> Engine:
    """Write the tiny model below ``folder`` and return vLLM serving it.

    ``kv_lease``: seconds that a prefill keeps KV nobody fetches.

    Raises:
        AssertionError: vLLM is not installed; `make e2e-vllm` does that.

    """
    assert PYTHON.exists(), f"no vLLM at {PYTHON}: run `make e2e-vllm`"
    directory, _ = tiny_model.write(folder / "model")
    templates = yaml.safe_load(EXAMPLE.read_text("utf-8"))["spec"]["templates"]
    return Engine(
        "vllm",
        {name: _on_cpu(template, directory, kv_lease) for name, template in templates.items()},
        re.compile(r'"POST /v1/completions HTTP/1\.1" \d+'),
    )


def _on_cpu(template: dict[str, Any], directory: Path, kv_lease: int) -> dict[str, Any]:
    """Return a template of the example as it runs here: program, model, CPU."""
    given = [word.replace("/models/{model}", str(directory)) for word in template["command"]]
    given = [word.replace("{model}", MODEL).replace("0.0.0.0", "127.0.0.1") for word in given]
    given = [_in_memory(word, kv_lease) if word.startswith(_KV) else word for word in given]
    command = [str(PYTHON), *given[1:], *OPTIONS]
    env = {**template.get("env", {}), **ENVIRON}
    here = {"command": command, "env": env, "parameters": {}, "kvLease": f"{kv_lease + 60}s"}
    return {**template, **here}


def _in_memory(word: str, kv_lease: int) -> str:
    """Return the KV transfer's configuration with the CPU's memory as its buffer."""
    extra = {"num_threads": 0, "kv_lease_duration": kv_lease}
    here = {
        "kv_buffer_device": "cpu",
        "kv_connector_extra_config": extra,
        # Two cores are few for a pair: a handshake may take longer than vLLM waits for it.
        "kv_load_failure_policy": "recompute",
    }
    return _KV + json.dumps({**json.loads(word.removeprefix(_KV)), **here})
