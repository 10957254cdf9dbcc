"""Roles switch under load: real engines of the workbench, the real sglang-router, a real agent's body."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.model import CommandResult, Gate, Launch, SwitchRole
from tests.agent.host_world import Host, sweep
from tests.agent.proxies import Traffic
from tests.agent.test_real_router import Rig

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None, reason="needs sglang-router"
    ),
]
DEADLINE = 60.0


def spec_of(folder: Path) -> AgentSpec:
    first = 24200 + os.getpid() % 40 * 20

    def template(role: str) -> dict[str, Any]:
        engine = (sys.executable, "-m", "heteroscale_workbench.engine_sim", "--startup", "0")
        where = ("--port", "{port}", "--bootstrap-port", "{bootstrap_port}")
        how = ("--mode", role, "--speed", "50", "--enable-pd-role-switch")
        return {
            "command": [*engine, *where, *how],
            "env": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            "role": role,
            "engine": "sglang",
            "gpus": 1,
            "readiness": {"period": "100ms"},
            "roleSwitch": {"settle": "500ms", "quietScrapes": 2, "timeout": "10s"},
        }

    return AgentSpec.model_validate(
        {
            "coordinator": "127.0.0.1:1",
            "state_dir": folder / "state",
            "ports": {"first": first, "last": first + 19},
            "reconcile_interval": "300ms",
            "sample_interval": "200ms",
            "templates": {"prefill": template("prefill"), "decode": template("decode")},
        }
    )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    try:
        await made.start_router()
        yield made
    finally:
        await made.close()


async def _look(eyes: HostEyes) -> None:
    while True:
        await eyes.sample()
        await asyncio.sleep(0.2)


async def test_an_instance_changes_sides_and_back_and_no_request_fails(
    rig: Rig, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path)
    eyes = await HostEyes.open(spec)
    host = Host(spec, eyes)
    looking = asyncio.create_task(_look(eyes))
    names = [f"i-{uuid.uuid4()}" for _ in range(3)]
    gate = Gate("sglang-router", (rig.url,))
    await host.start()
    try:
        for number, role in enumerate(("prefill", "prefill", "decode")):
            order = Launch("chat", Role(role), role, (number,), gate=gate)
            assert (await host.do(order, names[number])).outcome is Outcome.DONE
        for name in names:
            await host.until(InstanceState.IN_SERVICE, name)
        ends = {host.status(name).endpoint: host.status(name).role.value for name in names}
        assert await rig.listed() == ends
        moving = host.status(names[0]).endpoint
        body = {"model": "simulated", "prompt": "x " * 64, "max_tokens": 16}
        traffic = Traffic(f"{rig.url}/v1/completions", body)
        async with traffic.flowing(clients=2):
            await traffic.more(10)
            for role in (Role.DECODE, Role.PREFILL):
                accepted = await host.do(SwitchRole(role), names[0])
                assert accepted.outcome is Outcome.ACCEPTED

                async def listed(role: Role = role) -> bool:
                    return (await rig.listed()).get(moving) == role.value

                await rig.until(listed)
                assert host.status(names[0]).role is role
                await traffic.more(20)
        assert traffic.failures == []
        results = [item for item in host.said if isinstance(item, CommandResult)]
        assert [result.outcome for result in results] == [Outcome.DONE, Outcome.DONE]
    finally:
        await host.stop()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await eyes.close()
        sweep(names)
