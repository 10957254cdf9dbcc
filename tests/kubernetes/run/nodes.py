"""Kubelets behind whose pods real processes run: the container's own command, at an address of its own.

A pod is ready when its engine answers and its readiness gates say so. One that is told to end gets TERM,
and KILL when its grace period is over.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.kubernetes.kube import Refused
from tests.kubernetes.kubelet import Kubelet, conditions, stamp

Json = dict[str, Any]
PACE = 0.1
"""Seconds between two looks at the pods."""
BEAT = 10.0
"""Seconds between two signs of life of the nodes."""
GRACE = 30.0
"""Seconds that a pod has to end, unless it says otherwise."""


@dataclass
class Engine:
    """One pod's process."""

    pod: str
    instance: str
    role: str
    rank: int
    url: str
    process: asyncio.subprocess.Process
    answers: bool = False
    told: list[tuple[str, str]] | None = None
    """Conditions as last written: type and status."""
    running: float | None = None
    """Requests in flight when it was told to end; None: it has not been, or did not say."""
    kill_at: float = float("inf")
    killed: bool = False
    status: int | None = None
    """Exit status, once it has ended."""


class Nodes:
    """All nodes of a test. ``run`` it as a task."""

    def __init__(self, kubelet: Kubelet, folder: Path) -> None:
        self.kubelet, self._folder = kubelet, folder
        self.engines: dict[str, Engine] = {}
        """By the uid of their pods; those that have ended too."""
        self.pods: list[Json] = []
        """As last seen."""
        self._addresses = _addresses()
        self._http = httpx.AsyncClient(trust_env=False, timeout=30.0)

    async def run(self) -> None:
        """Be the kubelets, until cancelled."""
        beaten_at = float("-inf")
        while True:
            if (now := asyncio.get_running_loop().time()) - beaten_at > BEAT:
                await asyncio.to_thread(self.kubelet.beat)
                beaten_at = now
            self.pods = await asyncio.to_thread(self.kubelet.pods)
            await asyncio.gather(*map(self._mind, self.pods))
            await self._sweep({pod["metadata"]["uid"] for pod in self.pods})
            await asyncio.sleep(PACE)

    async def close(self) -> None:
        """End what still runs."""
        for one in self.engines.values():
            if one.process.returncode is None:
                one.process.kill()
            await one.process.wait()
        await self._http.aclose()

    def living(self) -> list[Engine]:
        """Return the engines whose process has not ended."""
        return [one for one in self.engines.values() if one.status is None]

    def ended(self) -> list[Engine]:
        """Return the engines that ran, and do no more."""
        return [one for one in self.engines.values() if one.status is not None]

    async def _mind(self, pod: Json) -> None:
        uid, leaving = pod["metadata"]["uid"], pod["metadata"].get("deletionTimestamp")
        engine = self.engines.get(uid)
        try:
            if engine is None:
                if leaving:
                    await asyncio.to_thread(self.kubelet.finish, pod["metadata"]["name"])
                else:
                    await self._start(pod)
            elif engine.process.returncode is not None:
                await self._over(engine, told=bool(leaving))
            elif leaving:
                await self._end(engine, pod)
            else:
                await self._tell(engine, pod)
        except Refused as error:
            if error.code not in (404, 409):
                raise

    async def _start(self, pod: Json) -> None:
        meta, container = pod["metadata"], pod["spec"]["containers"][0]
        address = next(self._addresses)
        words = [*container.get("command", ()), *container.get("args", ())]
        said = {one["name"]: one.get("value", "") for one in container.get("env", ())}
        with (self._folder / f"{meta['name']}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(word.replace("$(POD_IP)", address) for word in words),
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **said},
            )
        labels = meta["labels"]
        url = f"http://{address}:{labels['heteroscale.io/port']}"
        engine = Engine(
            meta["name"], labels["heteroscale.io/instance"], labels["heteroscale.io/role"],
            int(labels["heteroscale.io/rank"]), url, process,
        )  # fmt: skip
        self.engines[meta["uid"]] = engine
        await self._write(engine, pod, ready=False)

    async def _tell(self, engine: Engine, pod: Json) -> None:
        if not engine.answers:
            try:
                engine.answers = (await self._http.get(f"{engine.url}/health")).is_success
            except httpx.TransportError:
                return
        await self._write(engine, pod, ready=engine.answers)

    async def _write(self, engine: Engine, pod: Json, *, ready: bool) -> None:
        """Write the pod's status, if it is another than before."""
        there = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
        gates = [one["conditionType"] for one in pod["spec"].get("readinessGates", ())]
        open_ = all(there.get(gate) == "True" for gate in gates)
        told = conditions(ready)
        for one in told:
            if one["type"] == "Ready":
                one["status"] = "True" if ready and open_ else "False"
        plain = [(str(one["type"]), str(one["status"])) for one in told]
        if engine.told == plain:
            return
        container = pod["spec"]["containers"][0]
        state: Json = {
            "name": container["name"], "image": container["image"], "imageID": "", "ready": ready,
            "started": True, "restartCount": 0, "state": {"running": {"startedAt": stamp()}},
        }  # fmt: skip
        address = httpx.URL(engine.url).host
        await asyncio.to_thread(
            self.kubelet.status, engine.pod, phase="Running", podIP=address,
            podIPs=[{"ip": address}], hostIP="127.0.0.1", conditions=told, containerStatuses=[state],
        )  # fmt: skip
        engine.told = plain

    async def _end(self, engine: Engine, pod: Json) -> None:
        now = asyncio.get_running_loop().time()
        if engine.kill_at == float("inf"):
            engine.running = await self._in_flight(engine)
            engine.kill_at = now + pod["metadata"].get("deletionGracePeriodSeconds", GRACE)
            engine.process.terminate()
        elif now >= engine.kill_at and not engine.killed:
            engine.killed = True
            engine.process.send_signal(signal.SIGKILL)

    async def _over(self, engine: Engine, *, told: bool) -> None:
        engine.status = engine.process.returncode
        if told:
            await asyncio.to_thread(self.kubelet.finish, engine.pod)
        else:
            await asyncio.to_thread(self.kubelet.fail, engine.pod, code=engine.status or 1)

    async def _sweep(self, there: set[str]) -> None:
        """Kill what runs for a pod that is gone: somebody took it away with no time to end."""
        for uid, engine in self.engines.items():
            if uid not in there and engine.status is None:
                engine.killed = True
                if engine.process.returncode is None:
                    engine.process.kill()
                engine.status = await engine.process.wait()

    async def _in_flight(self, engine: Engine) -> float | None:
        """Return how many requests the engine has, by its own metrics."""
        try:
            page = (await self._http.get(f"{engine.url}/metrics")).text
        except httpx.TransportError:
            return None
        rows = (line.rpartition(" ") for line in page.splitlines())
        gauges = ("sglang:num_running_reqs", "sglang:num_queue_reqs")
        return sum(float(value) for name, _, value in rows if name.partition("{")[0] in gauges)


def _addresses() -> Iterator[str]:
    """Yield addresses of this machine, apart from those of tests beside this one."""
    pid = os.getpid()
    for number in itertools.count(1):
        yield f"127.{100 + pid % 100}.{pid // 100 % 250}.{number}"
