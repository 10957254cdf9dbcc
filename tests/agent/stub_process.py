"""Runs a script against the NVML stub in a process of its own: NVML's state is global there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from heteroscale_workbench.nvml_stub import STATE_VARIABLE

DEADLINE = 60.0


def run_script(script: str, state: Path, *arguments: str) -> Any:
    """Run `script` and return what it printed as JSON; its errors become the test's."""
    environ = {
        **os.environ,
        STATE_VARIABLE: str(state),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
