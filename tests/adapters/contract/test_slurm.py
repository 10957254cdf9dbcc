"""Slurm keeps the port's contract: on a real cluster of some nodes, through both ways in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from heteroscale_scheduler_adapters.port import Adapter, UnavailableError
from heteroscale_scheduler_adapters.slurm import create
from heteroscale_scheduler_adapters.slurm.adapter import SlurmAdapter
from heteroscale_scheduler_adapters.slurm.command import CommandWay
from heteroscale_scheduler_adapters.slurm.rest import RestWay
from heteroscale_scheduler_adapters.slurm.way import Way
from tests.adapters.contract.harness import Cluster
from tests.adapters.contract.suite import PortContract
from tests.slurm.cluster import SlurmCluster, slurm_cluster
from tests.slurm.files import Machine
from tests.slurm.host import WHY_NO_REST, WHY_NOT

# An engine that ends as it is told to, and by itself when the harness says so.
ENGINE = "trap 'exit 0' TERM; trap 'exit 3' USR1; while :; do sleep 0.1; done"


class LosesAnswer:
    """A way in that carries a release out, and loses the answer, once; all else is the way's own."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._way, name)

    async def release(self, jobs: Sequence[int]) -> None:
        await self._way.release(jobs)
        if not self._lost:
            self._lost = True
            raise UnavailableError("the answer was lost")


class RealSlurm:
    """A harness over a real cluster; it starts when it is first needed, with the nodes named before."""

    service = "chat"
    templates: Mapping[str, str] = {"prefill": "chat-prefill", "decode": "chat-decode"}
    pace = 0.1
    lacks: Mapping[str, str] = {
        "taint": "Slurm has no taints",
        "quota": "Slurm's limits are kept by its accounting, which needs a database",
        "keep": "Slurm keeps no job that its owner cancels",
        "expire": "Slurm tells no changes",
    }

    def __init__(self, way: str) -> None:
        self._way = way
        self._machines: list[Machine] = []
        self._spines: set[str] = set()
        self._real: SlurmCluster | None = None
        self._stack = AsyncExitStack()
        self._adapters: list[SlurmAdapter] = []

    async def adapter(self) -> Adapter:
        real = await self._started()
        one = create("hpc", self._options(real))
        await one.open()
        self._adapters.append(one)
        self._stack.push_async_callback(one.close)
        return one

    def _options(self, real: SlurmCluster) -> dict[str, Any]:
        options: dict[str, Any] = {
            "way": "rest" if self._way != "command" else "command",
            "timeout": "20s",
            "command": {"config": real.environ["SLURM_CONF"]},
            "templates": [
                {"name": name, "role": role, "gpus": 1, "port": 8000, "script": ENGINE}
                for role, name in self.templates.items()
            ],
        }
        if self._way != "command":
            options["rest"] = {"url": f"unix:{real.socket}"}
            if self._way == "jwt":
                options["rest"] |= {"tokenFile": str(real.token_file), "user": "root"}
        return options

    async def _started(self) -> SlurmCluster:
        if self._real is None:
            rest = "" if self._way == "command" else self._way
            context = slurm_cluster(self._machines, rest=rest)
            self._real = await self._stack.enter_async_context(context)
        return self._real

    async def close(self) -> None:
        await self._stack.aclose()

    # ---- its hardware and its users ------------------------------------------------------------

    async def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        switch = (topology or {}).get("s1", "")
        self._machines.append(Machine(name, f"gpu:{gpu_type}:{gpus}", switch))

    async def remove_node(self, name: str) -> None:
        real = await self._started()
        await real.kill_node(name)
        await real.stop_controller()
        real.machines = [machine for machine in real.machines if machine.name != name]
        real.write()
        await real.start_controller()

    async def cordon(self, name: str, why: str) -> None:
        real = await self._started()
        await real.run("scontrol", "update", f"NodeName={name}", "State=DRAIN", f"Reason={why}")

    async def occupy(self, node: str, gpus: int) -> str:
        real = await self._started()
        asked = ["-w", node, f"--gres=gpu:{gpus}", "-J", "training", "--wrap", "sleep 1000"]
        job = (await real.run("sbatch", "--parsable", "-o", "/dev/null", *asked)).strip()
        return f"job/{job}"

    async def others(self, role: str, node: str) -> str:
        real = await self._started()
        said = f"heteroscale:service={self.service},role={role},port=8000"
        asked = ["-w", node, "--gres=gpu:1", "--comment", said, "--wrap", "sleep 1000"]
        job = (await real.run("sbatch", "--parsable", "-o", "/dev/null", *asked)).strip()
        return f"hpc.job-{job}"

    async def start(self, instance_id: str) -> None:
        """Slurm starts it itself."""

    async def ready(self, instance_id: str) -> None:
        """Slurm starts it itself, and without an agent nobody knows more."""

    async def fail(self, instance_id: str) -> None:
        real = await self._started()
        job = await real.run("squeue", "-h", "-o", "%A %k")
        (number,) = [line.split()[0] for line in job.splitlines() if f'"{instance_id}"' in line]
        await real.run("scancel", "--batch", "--signal=USR1", number)

    async def finish(self, instance_id: str) -> None:
        """It ends by itself, once it is told to."""

    async def outage(self) -> None:
        await (await self._started()).stop_controller(kill=True)
        self._patience(1.0)

    async def recover(self) -> None:
        self._patience(20.0)
        await (await self._started()).start_controller()

    def _patience(self, seconds: float) -> None:
        """Slurm's clients try for 10 s; nobody is there, and no test has to wait for that."""
        for one in self._adapters:
            for way in one._ways:
                assert isinstance(way, (CommandWay, RestWay))
                way._deadline = seconds

    async def lose_next_answer(self, call: str) -> None:
        for one in self._adapters:
            assert one._steps is not None
            one._steps._way = cast("Way", LosesAnswer(one._steps._way))

    async def quota(self, gpu_type: str, limit: int) -> None:
        raise NotImplementedError

    async def taint(self, name: str, key: str, value: str, effect: str) -> None:
        raise NotImplementedError

    async def keep(self, instance_id: str, why: str) -> None:
        raise NotImplementedError

    async def expire(self) -> None:
        raise NotImplementedError


@pytest.mark.process
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
class TestSlurmCommands(PortContract):
    @pytest.fixture
    async def cluster(self) -> AsyncIterator[Cluster]:
        real = RealSlurm("command")
        yield real
        await real.close()


@pytest.mark.process
@pytest.mark.skipif(bool(WHY_NO_REST), reason=WHY_NO_REST)
class TestSlurmRest(PortContract):
    @pytest.fixture
    async def cluster(self) -> AsyncIterator[Cluster]:
        real = RealSlurm("local")
        yield real
        await real.close()
