"""Sources that block: read one at a time, stale when they hang, left behind when the agent ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heteroscale.words import GpuHealth
from heteroscale_agent.probes.blocking import BlockingSource
from heteroscale_agent.probes.worker import Worker
from heteroscale_workbench.nvml_stub import StubGpu, StubState
from heteroscale_workbench.rdma_tree import RdmaHost, RdmaPort
from tests.agent.eyes.rig import HandClock
from tests.agent.stub_process import run_script


async def test_a_blocking_source_is_read_once_at_a_time_and_goes_stale(clock: HandClock) -> None:
    worker = Worker("test")
    values: Iterator[int] = iter(range(10))
    source = BlockingSource("test", worker, lambda: next(values), clock)
    await source.start()
    assert source.latest(clock.now) == 0
    clock.now += 10
    assert source.latest(clock.now - 1) is None
    first = source.start()
    assert first is source.start() or first.done()
    await first
    assert source.latest(clock.now) == 1
    worker.close()


async def test_a_blocking_source_that_raises_keeps_what_it_last_said(clock: HandClock) -> None:
    def read() -> int:
        if clock.now > 1000:
            raise OSError("driver gone")
        return 5

    worker = Worker("test")
    source = BlockingSource("test", worker, read, clock)
    await source.start()
    clock.now += 1
    with pytest.raises(OSError, match="driver gone"):
        await source.start()
    assert source.latest(1000.0) == 5
    assert source.latest(1001.0) is None
    worker.close()


def test_the_first_inventory_tells_how_far_each_port_is_from_each_gpu(
    nvml_library: Path, tmp_path: Path
) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    state = tmp_path / "gpus.state"
    StubState(state, [StubGpu()] * 2).write()
    arguments = (str(nvml_library), str(host.infiniband), str(host.pci))
    assert run_script(DISTANCES, state, *arguments) == [["pix", "sys"], ["sys", "pix"]]


DISTANCES = """
import asyncio, json, sys
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes

async def main():
    spec = AgentSpec.model_validate({
        "coordinator": "127.0.0.1:1", "gpu": {"library": sys.argv[1]},
        "rdma": {"root": sys.argv[2], "pciRoot": sys.argv[3]},
    })
    eyes = await HostEyes.open(spec, environ={})
    print(json.dumps([gpu.nic_distances for gpu in eyes.inventory().gpus]))
    await eyes.close()

asyncio.run(main())
"""

HANGING_GPU = """
import asyncio, json, sys
from pathlib import Path
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes
from heteroscale_workbench.nvml_stub import StubGpu, StubState

async def main():
    state = StubState(Path(sys.argv[2]), [StubGpu(utilization_percent=37)])
    state.write()
    now = [0.0]
    spec = AgentSpec.model_validate({
        "coordinator": "127.0.0.1:1", "sampleInterval": "0.5s", "scrapeTimeout": "0.5s",
        "gpu": {"library": sys.argv[1]}, "rdma": {"root": sys.argv[3]},
        "stateDir": sys.argv[3],
    })
    eyes = await HostEyes.open(spec, clock=lambda: now[0], environ={})
    seen = []
    def note(report):
        reading = report.gpus[0]
        seen.append([reading.health, reading.utilization_percent, report.nics[0].active])
    async def until(healthy):
        while True:
            report = await eyes.sample()
            if healthy(report):
                return note(report)
    await until(lambda report: report.gpus[0].health == "ok" and report.nics[0].active)
    state.change(0, delay_ms=600_000)
    state.write()
    now[0] += 1
    await until(lambda report: report.nics[0].active)
    now[0] += 10
    await until(lambda report: report.nics[0].active)
    await eyes.close()
    print(json.dumps(seen))

asyncio.run(main())
"""


def test_a_driver_that_hangs_blinds_only_the_gpus_and_lets_the_agent_end(
    nvml_library: Path, tmp_path: Path
) -> None:
    RdmaPort(tmp_path / "infiniband").create()
    state = tmp_path / "gpus.state"
    arguments = (str(nvml_library), str(state), str(tmp_path / "infiniband"))
    # Fresh; then still fresh enough; then unknown. The process ends though a thread hangs.
    assert run_script(HANGING_GPU, state, *arguments) == [
        [GpuHealth.OK, 37, True],
        [GpuHealth.OK, 37, True],
        [GpuHealth.ERROR, None, True],
    ]
