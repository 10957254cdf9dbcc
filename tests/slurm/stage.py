"""From load to jobs: a mini Slurm, the real router, a coordinator, and engines under agents in jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from heteroscale.convert import from_wire
from heteroscale.documents import write_document
from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.operator import Operator
from heteroscale_workbench.cluster.processes import Part
from heteroscale_workbench.demo.profile import SERVICE, DemoProfile
from heteroscale_workbench.load import Arrival, LoadOptions, LoadRun
from heteroscale_workbench.router import Router, free_port
from tests.slurm.files import Machine
from tests.slurm.host import PORTS, block
from tests.slurm.rig import Told, told
from tests.traffic import sent

Json = dict[str, Any]
PATIENCE = 90.0
"""Seconds after which what a test waits for is not coming."""
S = InstanceState
PROMPT, OUTPUT = 64, 60
POLICY = {
    "windowOut": "4s", "windowIn": "5s", "hold": "0s", "cooldownOut": "1s", "cooldownIn": "2s",
    "observation": "3s", "freshness": "10s", "leastStepIn": 0,
}  # fmt: skip
DRAIN = {"settle": "2s", "quietScrapes": 3, "grace": "5s", "lease": "20s", "forceAfter": None}
"""Nothing is stopped by force: what is not seen to be empty stays."""
CLUSTER = "hpc"
EACH = 4
"""Ports of one job's agent: all nodes are this host."""
BLOCKS = 10
_ENVIRON = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
AGENT = """\
#!/bin/sh
# Each job's agent has a document of its own, because all nodes are one host: its ports differ.
shift 2
export PYTHONPATH='{path}'
exec {python} -m heteroscale_agent run --config {folder}/agent-$SLURM_JOB_ID.yaml "$@"
"""


@dataclass(frozen=True)
class Job:
    """A job of ours as ``squeue`` tells it."""

    number: str
    state: str
    node: str
    instance: str
    role: str
    group: str


def eight() -> list[Machine]:
    """Return eight nodes of two GPUs under two leaves, both types under each."""
    kinds = ("H20", "L20")
    return [
        Machine(f"n{n}", f"gpu:{kinds[n % 2]}:2", "leaf1" if n <= 4 else "leaf2")
        for n in range(1, 9)
    ]


class Stage:
    """The whole of a run, and what a test asks of it."""

    def __init__(self, slurm: Told, folder: Path, job: Json) -> None:
        self.slurm, self.folder, self._job = slurm, folder, job
        self.port, self.http_port = free_port(), free_port()
        self.seen_dir = folder / "seen"
        self.router = Router(log=folder / "router.log", policy="round_robin")
        self.operator = Operator(f"127.0.0.1:{self.port}")
        command = [sys.executable, "-m", "heteroscale_coordinator", "run", "-c"]
        config = str(folder / "coordinator.yaml")
        self.coordinator = Part(
            "coordinator", [*command, config], folder / "coordinator.log", _ENVIRON
        )
        self._guards = [block() for _ in range(BLOCKS)]

    async def start(self) -> None:
        """Start all, the coordinator last, and wait until it has the cluster's nodes."""
        self.seen_dir.mkdir()
        self._write_agents()
        document = {"apiVersion": "heteroscale/v1", "kind": "Coordinator", "spec": self._spec()}
        (self.folder / "coordinator.yaml").write_text(write_document(document), "utf-8")
        await self.router.start()
        await self.coordinator.start()
        await self.until(self._has_nodes, "the cluster's nodes")

    async def close(self) -> None:
        """Stop all; jobs go with their cluster."""
        await self.operator.__aexit__(None, None, None)
        await self.coordinator.stop()
        await self.router.stop()
        for guard, _ in self._guards:
            guard.close()

    def _spec(self) -> Json:
        options = {
            "way": "command",
            "timeout": "5s",
            "command": {"config": self.slurm.cluster.environ["SLURM_CONF"]},
            "agent": {
                "command": f"sh {self.folder}/agent.sh",
                "config": f"{self.folder}/agent.yaml",
            },
            "job": {"output": f"{self.folder}/job-%j.log", **self._job},
            "templates": [{"name": r, "role": r, "gpus": 1} for r in ("prefill", "decode")],
        }
        return {
            "listen": f"127.0.0.1:{self.port}",
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "dataDir": str(self.folder / "data"),
            "rules": DemoProfile().rules().document(),
            "adapters": [{"name": CLUSTER, "kind": "slurm", "options": options}],
        }

    def _write_agents(self) -> None:
        path = os.pathsep.join(sys.path)
        script = AGENT.format(path=path, python=sys.executable, folder=self.folder)
        (self.folder / "agent.sh").write_text(script, "utf-8")
        ports = [port for _, first in self._guards for port in range(first, first + PORTS, EACH)]
        for number, first in enumerate(ports, start=1):
            spec = {
                "coordinator": f"127.0.0.1:{self.port}",
                "advertiseHost": "127.0.0.1",
                "reconnectWithin": "2s",
                "sampleInterval": "1s",
                "ports": {"first": first, "last": first + EACH - 1},
                "templates": {role: self._template(role) for role in ("prefill", "decode")},
            }
            document = {"apiVersion": "heteroscale/v1", "kind": "Agent", "spec": spec}
            (self.folder / f"agent-{number}.yaml").write_text(write_document(document), "utf-8")

    def _template(self, role: str) -> Json:
        command = [
            *(sys.executable, "-m", "heteroscale_workbench.engine_sim", "--mode", role),
            *("--port", "{port}", "--bootstrap-port", "{bootstrap_port}", "--startup", "0.3"),
        ]
        return {
            "command": command,
            "role": role,
            "engine": "sglang",
            "env": {
                "HETEROSCALE_SEEN_DIR": str(self.seen_dir),
                "PYTHONPATH": _ENVIRON["PYTHONPATH"],
            },
            "readiness": {"period": "0.3s", "timeout": "2s"},
        }

    async def apply(self, prefill: tuple[int, int], decode: tuple[int, int], **spec: Any) -> None:
        """Apply the service with these bounds."""
        plain: Json = DemoProfile().service([self.router.url])
        body = plain["spec"]
        for role, (least, most) in (("prefill", prefill), ("decode", decode)):
            body["roles"][role] |= {"min": least, "max": most}
        body["policy"] |= POLICY
        body["drain"] = DRAIN
        await self.operator.apply(write_document(plain | {"spec": body | spec}))

    # ---- what is -----------------------------------------------------------------------------------

    async def counts(self) -> Counter[Role]:
        """Return how many of each role are in service."""
        every = await self.operator.instances(SERVICE)
        serving = [one for one in every if from_wire(S, one.state) is S.IN_SERVICE]
        roles = [from_wire(Role, one.role) for one in serving]
        return Counter(role for role in roles if role is not None)

    async def jobs(self, states: str = "all") -> list[Job]:
        """Return our jobs as ``squeue`` tells them."""
        said = await self.slurm.cluster.run("squeue", "-h", "-t", states, "-o", "%A|%T|%N|%k")
        found = []
        for line in said.splitlines():
            number, state, node, comment = line.split("|", 3)
            if comment.startswith("heteroscale:"):
                tag = json.loads(comment.removeprefix("heteroscale:"))
                group = tag.get("group", "")
                found.append(Job(number, state, node, tag["instance"], tag["role"], group))
        return sorted(found, key=lambda job: int(job.number))

    async def alone(self) -> bool:
        """Return whether all that lives is in service, and the router and Slurm have just these."""
        every = await self.operator.instances(SERVICE)
        live = Counter(from_wire(S, one.state) for one in every)
        if set(live) - {S.IN_SERVICE, S.TERMINATED, S.FAILED}:
            return False
        workers = [one for one in await self.router.workers() if one.healthy]
        there = await self.jobs("PENDING,RUNNING,COMPLETING")
        return len(workers) == live[S.IN_SERVICE] == len(there)

    async def under_one_leaf(self) -> None:
        """Assert that each group's jobs stand on nodes of one leaf, by Slurm's own words."""
        leaves: dict[str, set[str]] = {}
        for job in await self.jobs("RUNNING"):
            assert job.group, job
            leaves.setdefault(job.group, set()).add(self.slurm.leaf(job.node))
        assert leaves
        assert all(len(found) == 1 for found in leaves.values()), leaves

    async def steps_were_whole(self) -> None:
        """Assert that each launch of a decision became a job that ran."""
        ran = {job.instance for job in await self.jobs() if job.node}
        decisions = await self.operator.decisions(SERVICE)
        for one in decisions:
            if one.action == "scale_out":
                assert set(one.instance_ids) <= ran, one.reason

    # ---- waiting -----------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str) -> None:
        """Wait until the condition holds; who does not answer says neither."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError, httpx.HTTPError, AssertionError):
                        if await condition():
                            return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"it never came: {what}\n{await self.told()}") from None

    async def until_serving(self, prefill: int, decode: int) -> None:
        """Wait until exactly these counts serve, and nothing else is there."""

        async def there() -> bool:
            wanted = {Role.PREFILL: prefill, Role.DECODE: decode}
            return await self.counts() == wanted and await self.alone()

        await self.until(there, f"{prefill} prefill and {decode} decode in service, and no other")

    async def until_gone(self, *jobs: Job) -> None:
        """Wait until one of these jobs runs no more."""
        numbers = {job.number for job in jobs}

        async def gone() -> bool:
            there = {one.number for one in await self.jobs("R,CG,PD,S")}
            return bool(numbers - there)

        await self.until(gone, f"one of {sorted(numbers)} ended")

    async def until_told(self, words: str) -> None:
        """Wait until the coordinator's log has these words."""

        async def there() -> bool:
            return words in self.coordinator.log.read_text("utf-8", "replace")

        await self.until(there, words)

    async def until_answered(self, load: LoadRun, requests: int) -> None:
        """Wait until so many requests were answered."""

        async def there() -> bool:
            return load.snapshot().passed >= requests

        await self.until(there, f"{requests} answers")

    async def moment(self, job: Job, form: str) -> str:
        """Return a time of a job, as ``squeue`` prints it; they sort as they come."""
        return (
            await self.slurm.cluster.run("squeue", "-h", "-j", job.number, "-t", "all", "-o", form)
        ).strip()

    async def _has_nodes(self) -> bool:
        self.coordinator.require()
        return len(await self.operator.nodes()) >= len(self.slurm.cluster.machines)

    async def told(self) -> str:
        """Return what an operator sees and why it is so, for a failing test's eyes."""
        lines: list[str] = []
        with contextlib.suppress(grpc.aio.AioRpcError, httpx.HTTPError, AssertionError):
            lines += [f"{w.url} {w.role} {w.healthy}" for w in await self.router.workers()]
            for one in await self.operator.instances(SERVICE):
                state, role = from_wire(S, one.state), from_wire(Role, one.role)
                lines.append(f"{one.instance_id} {role} {state} {one.endpoint} {one.message}")
            decisions = await self.operator.decisions(SERVICE)
            lines += [f"{one.action}: {one.reason}" for one in reversed(decisions[:30])]
            lines += [str(job) for job in await self.jobs()]
        logs = [self.folder / "coordinator.log", *sorted(self.folder.glob("job-*.log"))[-4:]]
        for log in logs:
            text = log.read_text("utf-8", "replace") if log.exists() else ""
            lines += [f"--- {log.name}", *text.splitlines()[-20:]]
        return "\n".join(lines)

    # ---- traffic -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def traffic(self, rate: float) -> AsyncIterator[LoadRun]:
        """Send steady traffic while inside; at the end every request must have been answered well."""
        arrivals = [Arrival(i / rate, PROMPT, OUTPUT) for i in range(round(rate * 300))]
        options = LoadOptions(seen_dir=self.seen_dir, timeout=60.0)
        run = LoadRun(self.router.url, arrivals, options)
        async with sent(run):
            yield run


@contextlib.asynccontextmanager
async def stage(
    folder: Path, *, lines: Sequence[str] = (), job: Json | None = None
) -> AsyncIterator[Stage]:
    """Run a stage; stop it whatever happens."""
    async with told(eight(), lines=lines) as slurm:
        made = Stage(slurm, folder, job or {})
        try:
            await made.start()
            yield made
        finally:
            await made.close()
        assert made.coordinator.status in (0, None), made.coordinator.tail(30)
