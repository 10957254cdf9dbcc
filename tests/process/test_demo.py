"""The demo judges: it fails when requests are cut, and any trace tells the same story.

Its passing run is CI's own ``make demo``.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(420)]
RUN = (sys.executable, "-m", "heteroscale_workbench.demo", "--headless")


def demo(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the demo and return its exit status, figures and output."""
    figures = folder / "out.json"
    command = [*RUN, "--json", str(figures), "--report", str(folder / "report.html"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert figures.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(figures.read_text()), done.stdout + done.stderr


def test_without_the_drains_wait_requests_are_cut_and_the_demo_fails(tmp_path: Path) -> None:
    status, figures, output = demo(tmp_path, "--no-drain-wait")
    assert status == 1, output
    assert figures["failed_requests"] > 0
    assert "requests failed" in output


def test_a_trace_of_bursts_tells_the_same_story(tmp_path: Path) -> None:
    draw = random.Random(7)  # noqa: S311 - a reproducible trace, not a secret
    rows, now = ["t_s,input_tokens,output_tokens"], 0.0
    for _ in range(600):
        now += draw.expovariate(1.0) * (0.2 if draw.random() < 0.7 else 4.0)
        rows.append(f"{now:.3f},{draw.randint(50, 9000)},{draw.randint(5, 900)}")
    trace = tmp_path / "trace.csv.gz"
    trace.write_bytes(gzip.compress("\n".join(rows).encode()))
    status, figures, output = demo(tmp_path, "--trace", str(trace))
    assert status == 0, output
    assert figures["failed_requests"] == figures["retried_requests"] == 0
    assert figures["withdrawn"]
    assert figures["reinstated"]


def test_two_services_on_too_few_gpus_and_the_lower_one_gives(tmp_path: Path) -> None:
    status, figures, output = demo(tmp_path, "--scene", "shortage")
    assert status == 0, output
    high, low = figures["services"]["chat"], figures["services"]["batch"]
    assert high["failed_requests"] == low["failed_requests"] == 0
    assert (low["given"] > 0, high["given"]) == (True, 0)
    assert (high["max_prefill"], high["max_decode"]) == (2, 4)
