"""The batch script of a job, run by a real shell: who gets the warning, and what the job's end tells."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale_scheduler_adapters.port import Launch, Spot, Step
from heteroscale_scheduler_adapters.slurm.records import Order
from heteroscale_scheduler_adapters.slurm.script import batch_script, filled
from heteroscale_scheduler_adapters.slurm.settings import AgentOptions, TemplateOptions

# Stands for srun, or for the agent: says what it is, and ends with a status of its own.
TOLD = """#!/bin/sh
trap 'echo USR1; exit 7' USR1
trap 'echo TERM; exit 8' TERM
echo "$0 $@"
while kill -0 $PPID 2>/dev/null; do sleep 0.05; done
"""


def script(order: Order) -> str:
    nodes = [Spot(f"n{number}") for number in range(order.count)]
    launch = Launch("i-1", "chat", "decode", "chat-decode", tuple(nodes), gpus=1)
    return batch_script(
        "east",
        Step("r-1", "dec-1", (launch,)),
        launch,
        template=TemplateOptions(name="chat-decode", role="decode", gpus=1),
        agent=AgentOptions(command="agent"),
        order=order,
    )


def order(count: int = 1, **more: Any) -> Order:
    nodes = tuple(f"n{number}" for number in range(count))
    return replace(Order("hs", "", "", nodes, count, "gpu:1"), **more)


def begun(folder: Path, text: str) -> subprocess.Popen[str]:
    """Run a script and return once what it runs is there."""
    for name in ("srun", "agent"):
        (folder / name).write_text(TOLD, "utf-8")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["sh", "-c", text], stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": path}
    )
    assert process.stdout is not None
    assert "--instance i-1" in process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("count", "said", "status"), [(1, "TERM", 8), (2, "USR1", 7)], ids=["one rank", "two ranks"]
)
def test_the_warning_reaches_the_agents(tmp_path: Path, count: int, said: str, status: int) -> None:
    process = begun(tmp_path, script(order(count)))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (out.split(), process.returncode) == ([said], status)


@pytest.mark.parametrize("count", [1, 2])
def test_a_script_warns_itself_where_slurm_cannot(tmp_path: Path, count: int) -> None:
    text = script(order(count, limit=1, warning=59, warn_batch=False))
    assert "( sleep 1; kill -TERM $$ ) &" in text
    process = begun(tmp_path, text)
    out, _ = process.communicate(timeout=60)
    assert (out.split(), process.returncode) == ((["TERM"], 8) if count == 1 else (["USR1"], 7))


def test_what_a_parameter_says_asks_for_no_other_and_runs_nothing(tmp_path: Path) -> None:
    """A service's texts are data to an administrator's script, whatever is written in them."""
    said = {"a": "{b}", "b": f"; touch {tmp_path}/here; ", "c": "$(echo no) 'x'"}
    text = filled("printf '%s\\n' {a} {b} {c} {d}", said, quoted=True)
    out = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True).stdout
    assert out.splitlines() == [said["a"], said["b"], said["c"], "{d}"]
    assert not list(tmp_path.iterdir())
