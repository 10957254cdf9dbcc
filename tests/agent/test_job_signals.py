"""Signals to an agent within a job that has not come to life yet: kept, and obeyed once it has."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from heteroscale_agent.job.signals import TELLING, Signals, heard

DOCUMENT = """
apiVersion: heteroscale/v1
kind: Agent
spec: {coordinator: "127.0.0.1:9", insecure: true}
"""
"""Port 9 discards: nobody is there, and nobody is needed."""


async def test_each_signal_is_told_once_whenever_it_came() -> None:
    signals, told = Signals(), []
    signals.take(signal.SIGTERM)
    with signals.to(lambda: told.append("life")):
        await asyncio.sleep(0)
        assert told == ["life"]
        signals.take(signal.SIGUSR1)
        await asyncio.sleep(0)
        assert told == ["life"] * 2
    signals.take(signal.SIGTERM)
    await asyncio.sleep(0)
    assert told == ["life"] * 2, "its loop is gone"


def test_who_listened_before_listens_again() -> None:
    before = [signal.getsignal(number) for number in TELLING]
    with heard() as signals:
        assert [signal.getsignal(number) for number in TELLING] == [signals.take] * len(TELLING)
    assert [signal.getsignal(number) for number in TELLING] == before


def test_told_to_end_while_it_starts_it_ends_well(tmp_path: Path) -> None:
    """It waits for its document, which is a pipe: so far it is when it is told."""
    document = tmp_path / "agent.yaml"
    os.mkfifo(document)
    job = ["--instance", "i-1", "--within", "hpc/n1", "--advertise-host", "127.0.0.1"]
    environ = os.environ | {"TMPDIR": str(tmp_path), "SLURM_JOB_ID": "7"}
    words = [sys.executable, "-m", "heteroscale_agent", "run", "-c", str(document), *job]
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as process:
        with document.open("w") as pipe:
            process.send_signal(signal.SIGTERM)
            pipe.write(DOCUMENT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "told to end before anything was started" in said
    assert list(tmp_path.iterdir()) == [document], "its folder goes with it"
