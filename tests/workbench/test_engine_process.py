"""engine-sim as a process: start-up, signals, faults of the whole process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from heteroscale_simulator.profiles import load_profile
from heteroscale_workbench.engine_sim.__main__ import parser, run, settings_of
from heteroscale_workbench.seen import SeenReader
from tests.workbench.sims import EngineProcess, engine_process, until, write_profile

pytestmark = pytest.mark.process
LONG = {"prompt": "a", "max_tokens": 400, "stream": True}


async def _first_bytes(
    http: aiohttp.ClientSession, engine: EngineProcess
) -> aiohttp.ClientResponse:
    response = await http.post(f"{engine.url}/v1/completions", json=LONG)
    assert response.status == 200
    await response.content.readany()
    return response


async def test_sigterm_cuts_what_is_in_flight_at_once() -> None:
    async with engine_process("aggregated") as engine, aiohttp.ClientSession() as http:
        response = await _first_bytes(http, engine)
        engine.signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientError):
            await response.read()
        assert await engine.process.wait() == 0


async def test_a_shutdown_timeout_lets_requests_end_and_takes_no_new_ones(tmp_path: Path) -> None:
    profile = str(write_profile(tmp_path))  # 400 tokens take two seconds
    async with (
        engine_process("aggregated", "--profile", profile, "--shutdown-timeout", "60") as engine,
        aiohttp.ClientSession() as http,
    ):
        response = await _first_bytes(http, engine)
        engine.signal(signal.SIGTERM)

        async def refused() -> bool:
            body = {"prompt": "a", "max_tokens": 1}
            async with http.post(f"{engine.url}/v1/completions", json=body) as reply:
                return reply.status == 503

        await until(refused)
        assert (await response.text()).endswith("data: [DONE]\n\n")
        assert await engine.process.wait() == 0


async def test_an_engine_told_to_ignore_term_does() -> None:
    async with engine_process("aggregated", "--fault", "ignore-term") as engine:
        engine.signal(signal.SIGTERM)
        assert await engine.metric("sglang:num_running_reqs") == 0
        assert engine.process.returncode is None


async def test_an_engine_that_never_gets_ready_refuses_connections_until_it_is_told_to_go() -> None:
    async with engine_process("decode", "--fault", "never-ready", wait=False) as engine:

        def bound() -> bool:
            # Refused either way; once bound, nobody else can have the port.
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", engine.port))
                except OSError:
                    return True
            return False

        await until(bound)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", engine.port)
        engine.signal(signal.SIGTERM)
        assert await engine.process.wait() == 0


def test_an_engine_told_to_exit_at_once_exits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--fault", "exit-at-once"]) == 3
    assert "exit" in capsys.readouterr().err


async def test_a_taken_port_is_said_at_once_not_after_the_start_up_time() -> None:
    async with engine_process("aggregated") as engine:
        command = ["--port", str(engine.port), "--startup", "600"]
        assert await asyncio.to_thread(_status_of, command) == 2


def _status_of(command: list[str]) -> int:
    line = [sys.executable, "-m", "heteroscale_workbench.engine_sim", *command]
    return subprocess.run(line, check=False, capture_output=True, timeout=60).returncode


async def test_it_writes_how_busy_its_gpu_is_and_which_requests_came(tmp_path: Path) -> None:
    state, seen = tmp_path / "gpu.json", tmp_path / "seen"
    arguments = ("--gpu-state", str(state), "--seen-dir", str(seen))
    async with engine_process("aggregated", *arguments) as engine, aiohttp.ClientSession() as http:
        response = await http.post(
            f"{engine.url}/v1/completions", json=LONG, headers={"X-Request-Id": "mine"}
        )
        await response.content.readany()
        await until(lambda: state.exists() and json.loads(state.read_text())["busy"] > 0.9)
        response.close()
        await until(lambda: json.loads(state.read_text())["busy"] == 0)
        assert json.loads(state.read_text())["port"] == engine.port
    reader = SeenReader(seen)
    reader.refresh()
    assert reader.roles == ["aggregated"]
    assert reader.tries("mine") == 1


@pytest.mark.parametrize(
    "line",
    [
        ["--gpu", "B200"],
        ["--profile", "nowhere.yaml"],
    ],
)
def test_what_cannot_be_imitated_is_refused(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    assert "engine-sim: " in capsys.readouterr().err


def test_speed_divides_the_profiles_start_up_time_but_not_one_that_is_given() -> None:
    profile = load_profile("demo")
    fast = settings_of(parser().parse_args(["--gpu", "H20", "--speed", "4"]), profile)
    assert fast.startup == profile.gpu("H20").startup / 4
    given = settings_of(parser().parse_args(["--speed", "4", "--startup", "3"]), profile)
    assert given.startup == 3
