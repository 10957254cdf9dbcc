"""The body with real engines, real signals and a real kill -9 of the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from heteroscale.words import InstanceState, Outcome
from heteroscale_agent.hands import procfs
from heteroscale_agent.model import CommandResult, Terminate
from tests.agent.body_twins import drain
from tests.agent.host_world import Host, launch_of, spec_of, sweep

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]
StartHost = Callable[..., Awaitable[Host]]


@pytest.fixture
def name() -> Iterator[str]:
    made = f"i-{uuid.uuid4()}"
    yield made
    sweep([made])


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartHost]:
    hosts: list[Host] = []

    async def make(*options: str) -> Host:
        host = Host(spec_of(tmp_path, *options))
        hosts.append(host)
        await host.start()
        return host

    yield make
    for host in hosts:
        await host.stop()


def health(endpoint: str) -> int:
    return httpx.get(endpoint + "/health", trust_env=False, timeout=10).status_code


def run_and_kill_an_agent(folder: Path, name: str) -> tuple[int, str]:
    """Let an agent bring an engine into service, kill its whole group; return pid and endpoint."""
    path = os.pathsep.join([*(str(ROOT / part) for part in ("proto", "agent")), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.agent.agent_process", str(folder), name],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    ) as agent:
        assert agent.stdout is not None
        lines = iter(agent.stdout.readline, b"")
        # Its log lines come before: the one that begins with a pid is meant for us.
        told = next(line.decode().split() for line in lines if _is_pid(line))
        os.killpg(agent.pid, signal.SIGKILL)
        assert agent.wait() == -signal.SIGKILL
    return int(told[0]), told[1]


def _is_pid(line: bytes) -> bool:
    words = line.split()
    return len(words) == 2 and words[0].isdigit()


async def test_from_launch_over_drain_to_the_end(start: StartHost, name: str) -> None:
    host = await start()
    assert (await host.do(launch_of(), name)).outcome is Outcome.DONE
    status = await host.until(InstanceState.IN_SERVICE, name)
    assert health(status.endpoint) == 200
    assert status.startup_time is not None
    assert host.eyes.targets[0].url == status.endpoint + "/metrics"
    order = drain(settle_time=0.1, quiet_scrapes=2, grace=10.0)
    accepted = await host.do(order, name)
    assert accepted.outcome is Outcome.ACCEPTED
    ended = await host.until(InstanceState.TERMINATED, name)
    assert ended.exit_code == 0
    assert not psutil.pid_exists(status.pid)
    done = [item for item in host.said if isinstance(item, CommandResult)]
    assert [(r.command_id, r.outcome) for r in done] == [(accepted.command_id, Outcome.DONE)]


async def test_an_engine_that_exits_at_once(tmp_path: Path, start: StartHost, name: str) -> None:
    host = await start("--ready-file")  # the option lacks its value: a traceback and exit code 1
    await host.do(launch_of(), name)
    status = await host.until(InstanceState.FAILED, name)
    assert status.exit_code == 1
    assert "exited with code 1; log: " in status.message
    assert "IndexError" in status.message


async def test_an_engine_that_is_never_ready(tmp_path: Path, start: StartHost, name: str) -> None:
    host = await start("--ready-file", str(tmp_path / "never"), "--ignore-term")
    await host.do(launch_of(startup_timeout=1.5), name)
    status = await host.until(InstanceState.FAILED, name)
    assert "not ready after 1.5 s" in status.message
    assert not psutil.pid_exists(status.pid)


async def test_an_engine_that_ignores_term_dies_with_its_workers(
    start: StartHost, name: str
) -> None:
    host = await start("--ignore-term", "--worker")
    await host.do(launch_of(), name)
    status = await host.until(InstanceState.IN_SERVICE, name)
    (worker,) = psutil.Process(status.pid).children()
    await host.do(Terminate(grace=0.5), name)
    ended = await host.until(InstanceState.TERMINATED, name)
    assert ended.exit_code == -signal.SIGKILL
    assert "KILL" in ended.message
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


async def test_a_killed_engine_is_noticed(start: StartHost, name: str) -> None:
    host = await start()
    await host.do(launch_of(), name)
    status = await host.until(InstanceState.IN_SERVICE, name)
    os.kill(status.pid, signal.SIGKILL)
    ended = await host.until(InstanceState.FAILED, name)
    assert ended.exit_code == -signal.SIGKILL
    assert not host.eyes.targets


async def test_a_body_that_goes_leaves_its_engines_and_a_new_one_adopts_them(
    start: StartHost, name: str
) -> None:
    host = await start()
    await host.do(launch_of(), name)
    before = await host.until(InstanceState.IN_SERVICE, name)
    await host.stop()
    assert health(before.endpoint) == 200
    again = await start()
    status = again.status(name)
    assert (status.pid, status.generation, status.adopted) == (before.pid, before.generation, True)
    await again.do(Terminate(grace=10.0), name)
    ended = await again.until(InstanceState.TERMINATED, name)
    # Not this body's child any more: its exit code is nobody's to know.
    assert ended.exit_code is None


async def test_a_lost_journal_loses_no_engine(tmp_path: Path, start: StartHost, name: str) -> None:
    host = await start()
    await host.do(launch_of(), name)
    before = await host.until(InstanceState.IN_SERVICE, name)
    await host.stop()
    (tmp_path / "state" / "journal.jsonl").unlink()
    again = await start()
    after = await again.until(InstanceState.IN_SERVICE, name)
    assert (after.pid, after.endpoint) == (before.pid, before.endpoint)
    assert after.generation > before.generation
    refused = await again.do(launch_of(), f"{name}-2")
    assert refused.message == f"GPU 0 is held by {name}"
    await again.do(drain(settle_time=0.1, quiet_scrapes=2, grace=10.0), name)
    await again.until(InstanceState.TERMINATED, name)
    assert list(procfs.tagged(name)) == []


async def test_kill_9_of_the_agents_whole_group_does_not_reach_engines(
    tmp_path: Path, start: StartHost, name: str
) -> None:
    pid, endpoint = await asyncio.to_thread(run_and_kill_an_agent, tmp_path, name)
    assert health(endpoint) == 200
    host = await start()
    status = host.status(name)
    assert (status.pid, status.endpoint, status.adopted) == (pid, endpoint, True)
    assert status.state is InstanceState.IN_SERVICE
    assert len(list(procfs.tagged(name))) == 1
    await host.do(drain(settle_time=0.1, quiet_scrapes=2, grace=10.0), name)
    await host.until(InstanceState.TERMINATED, name)
    assert list(procfs.tagged(name)) == []
