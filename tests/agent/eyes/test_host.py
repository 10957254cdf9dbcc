"""The host as the eyes see it: inventory, the NVML stub's GPUs, ports of a tree of files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import GpuHealth, Role
from heteroscale_agent.config import GpuSettings, RdmaSettings, Template
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.model import Report, TemplateInfo
from heteroscale_agent.ports import Eyes, GpuHolder
from heteroscale_agent.wire.facts import inventory_message
from heteroscale_workbench.nvml_stub import STATE_VARIABLE, StubGpu, StubState
from heteroscale_workbench.rdma_tree import RdmaHost, RdmaPort
from tests.agent.eyes.rig import HandClock, engine_text, opened, target
from tests.agent.metrics_server import MetricsServer


async def test_inventory(clock: HandClock, tmp_path: Path) -> None:
    RdmaPort(tmp_path / "infiniband").create()
    template = Template(command=("x",), role=Role.DECODE, gpus=2, engine="sglang", version="0.5.21")
    async with opened(
        clock, tmp_path, topology={"s2": "big"}, templates={"d": template}, labels={"a": "b"}
    ) as eyes:
        port: Eyes = eyes
        seen = port.inventory()
    assert [nic.name for nic in seen.nics] == ["mlx5_0"]
    assert seen.topology == {"s1": "pod-3", "s2": "big"}
    assert seen.templates == (TemplateInfo("d", Role.DECODE, 2, "sglang", engine_version="0.5.21"),)
    assert inventory_message(seen).templates[0].engine_version == "0.5.21"
    assert seen.labels == {"a": "b"}
    assert seen.cpu_count > 0
    assert seen.memory_bytes > 0


async def test_a_missing_driver_is_a_host_without_gpus(clock: HandClock, tmp_path: Path) -> None:
    settings = GpuSettings(library=tmp_path / "missing.so")
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        assert eyes.inventory().gpus == ()
        assert (await eyes.sample()).gpus == ()


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubState:
    state = StubState(tmp_path / "gpus.state", [StubGpu(utilization_percent=10), StubGpu()])
    monkeypatch.setenv(STATE_VARIABLE, str(state.path))
    return state


async def seen(
    eyes: HostEyes, clock: HandClock, until: Callable[[Report], bool], step: float = 1.0
) -> Report:
    """Sample until a report is as it should be; each is in the order of the inventory."""
    async with asyncio.timeout(20):
        while True:
            clock.now += step
            report = await eyes.sample()
            assert len(report.gpus) == len(eyes.inventory().gpus)
            if until(report):
                return report


async def test_gpus_that_come_and_go_are_another_inventory(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    gpus.write()
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        first = eyes.inventory()
        await seen(eyes, clock, lambda report: report.gpus[0].health is GpuHealth.OK)
        assert eyes.inventory() is first, "nothing has changed"
        eyes.set_holders([GpuHolder("i-1", (0, 1), 1)])
        gpus.gpus = [gpus.gpus[0], StubGpu(name="NVIDIA L20", utilization_percent=20)]
        gpus.gpus[1] = replace(gpus.gpus[1], uuid="GPU-new")
        gpus.write()
        report = await seen(eyes, clock, lambda report: len(report.gpus) > 2, step=5.0)
        after = eyes.inventory()
    assert [gpu.type for gpu in after.gpus] == ["H20", "H20", "L20"]
    assert [gpu.index for gpu in after.gpus] == [0, 1, 2]
    assert [gpu.utilization_percent for gpu in report.gpus] == [10, None, 20]
    assert report.gpus[1].health is GpuHealth.LOST


async def test_who_is_on_a_gpu_now_is_told_to_whoever_asks(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    gpus.change(1, pids=(os.getpid(),))
    gpus.write()
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        await seen(eyes, clock, lambda report: report.gpus[1].process_count == 1)
        told = {gpu.index: reading.processes for gpu, reading in eyes.gpus_now()}
        assert told[0] == ()
        assert [process.pid for process in told[1]] == [os.getpid()]
        clock.now += 60
        assert eyes.gpus_now() == (), "nobody knows any more"


async def test_a_driver_that_comes_later_than_the_agent(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        assert (await eyes.sample()).gpus == ()
        assert eyes.inventory().gpus == ()
        gpus.write()
        report = await seen(eyes, clock, lambda report: len(report.gpus) == 2, step=5.0)
        assert eyes.inventory().driver_version == "580.65.06"
    assert report.gpus[0].utilization_percent == 10


async def test_what_an_engine_takes_of_its_gpus(
    clock: HandClock,
    tmp_path: Path,
    nvml_library: Path,
    gpus: StubState,
    servers: tuple[MetricsServer, MetricsServer],
) -> None:
    leader = os.getsid(0)
    gpus.change(1, pids=(os.getpid(),), memory_used_mib=300, utilization_percent=60)
    gpus.write()
    servers[0].says(engine_text(1))
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        eyes.set_targets([target("i-1", servers[0])])
        eyes.set_holders([GpuHolder("i-1", (1,), leader)])
        report = await seen(
            eyes, clock, lambda report: report.engines[0].gpu_sm_percent is not None
        )
    assert report.engines[0].gpu_memory_used_bytes == 300 << 20
    assert report.engines[0].gpu_sm_percent == 60.0
    assert [gpu.foreign_process_count for gpu in report.gpus] == [0, 0]


async def test_shares_and_limits_of_ports(clock: HandClock, tmp_path: Path) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    rdma = RdmaSettings(root=host.infiniband, limits={"mlx5_1": 200.0}, rails_in_order=True)
    async with opened(clock, tmp_path, rdma=rdma) as eyes:
        await eyes.sample()
        clock.now += 2
        for port in host.ports:
            port.transfer(received=25 * 10**9, sent=10**9)
        report = await eyes.sample()
        assert [nic.rail for nic in eyes.inventory().nics] == [0, 1]
    assert [nic.share for nic in report.nics] == [0.25, 0.5]


async def test_a_reloaded_driver_changes_the_inventory_and_loses_no_count(
    clock: HandClock, tmp_path: Path
) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    first, second = host.ports
    async with opened(clock, tmp_path, rdma=RdmaSettings(root=host.infiniband)) as eyes:
        await eyes.sample()
        first.transfer(sent=400)
        clock.now += 1
        seen = [await eyes.sample()]
        second.remove()
        first.transfer(sent=400)
        clock.now += 30
        seen.append(await eyes.sample())
        assert [nic.name for nic in eyes.inventory().nics] == ["mlx5_0"]
        second.reload()
        second.transfer(sent=40)
        clock.now += 30
        seen.append(await eyes.sample())
        assert [nic.name for nic in eyes.inventory().nics] == ["mlx5_0", "mlx5_1"]
    assert [[nic.sent_octets for nic in report.nics] for report in seen] == [
        [400, 0],
        [800],
        [800, 40],
    ]
