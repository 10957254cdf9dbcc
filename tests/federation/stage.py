"""Three worlds under one coordinator: hosts with agents, a real Slurm, and an API server with kubelets.

``metal``: two agents, with engine-sim behind a real router. ``hpc``: slurmctld and two nodes; an instance
is a job. ``east``: the API server of the tests; an instance is a pod.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState
from heteroscale_coordinator.core.rules import Rules
from heteroscale_workbench.cluster.local import Layout
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.played.whole import play
from tests.kubernetes.server.faults import Fault, Wrong
from tests.kubernetes.server.serve import ApiServer
from tests.process import fleet
from tests.process.fleet import document
from tests.process.stage import RULES, SPEC, Stage, role_of, state_of
from tests.slurm.cluster import SlurmCluster, slurm_cluster
from tests.slurm.files import Machine

METAL, HPC, EAST = "metal", "hpc", "east"
WORLDS = (METAL, HPC, EAST)
GPUS = 4
"""Of each node, all of one type, so that nothing but what a test says tells the worlds apart."""
ROLES = ("prefill", "decode")
PACE = {"look": "1s", "lookWatched": "2s", "answer": "6s", "patience": "2s"}
QUICK = RULES.model_copy(
    update={"silent_after": 15.0, "lost_after": 300.0, "command_deadline": 60.0}
)
"""A silence outlasts what a busy machine takes to answer."""
PATIENCE = 90.0
ENGINE = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
"""What a job runs: nothing measures it here, so nothing needs to serve."""
_S = InstanceState


class Federation(Stage):
    """What a test asks of the three, and does to them."""

    slurm: SlurmCluster
    kube: Kube
    kubelet: Kubelet
    _ticks: asyncio.Task[None] | None = None

    # ---- the service -----------------------------------------------------------------------------

    async def want(self, prefill: int, decode: int, **placement: Any) -> None:
        """Set the counts, and how they are placed."""
        roles = {role: {**said, "gpuTypes": ["H20"]} for role, said in SPEC["roles"].items()}
        spec = {**SPEC, "placement": {"affinity": "cluster", **placement}, "roles": roles}
        counts = (prefill, prefill), (decode, decode)
        await self.operator.apply(document(self.cluster, *counts, **spec))

    async def placed(self, *states: InstanceState) -> dict[str, dict[str, list[str]]]:
        """Return ids by world and role, of instances in one of these states."""
        found: dict[str, dict[str, list[str]]] = {}
        for key, one in sorted((await self.by_id()).items()):
            if state_of(one) in states:
                roles = found.setdefault(world_of(one), {})
                roles.setdefault(role_of(one).value, []).append(key)
        return found

    async def counted(self, *states: InstanceState) -> dict[str, tuple[int, int]]:
        """Return how many prefill and decode instances each world has in these states."""
        placed = await self.placed(*states)
        return {
            world: (len(roles.get("prefill", ())), len(roles.get("decode", ())))
            for world, roles in placed.items()
        }

    async def until_counted(
        self, wanted: Mapping[str, tuple[int, int]], *states: InstanceState
    ) -> None:
        """Wait until the worlds have exactly these."""
        states = states or (_S.IN_SERVICE,)

        async def there() -> bool:
            return await self.counted(*states) == wanted

        await self.until(there, f"{wanted} {' or '.join(states)}", PATIENCE)

    async def placements(self) -> list[str]:
        """Return what was said of the placement of each step, newest first."""
        decisions = await self.operator.decisions("chat")
        return [d.inputs["placement"] for d in decisions if "placement" in d.inputs]

    # ---- what is really there --------------------------------------------------------------------

    async def jobs(self) -> set[str]:
        """Return the instance ids of all jobs that Slurm ever had, ended ones too."""
        text = await self.slurm.run("squeue", "-h", "-t", "all", "-o", "%A %k")
        known = await self.by_id()
        told = [line for line in text.splitlines() if line.strip()]
        ids = {key for key in known for line in told if f'"{key}"' in line}
        assert len(told) == len(ids), f"a job for each instance, and no other: {told}"
        return ids

    def pods(self) -> dict[str, str]:
        """Return the uids of all pods, by the instance id that they are labelled with."""
        found = self.kube.list("v1", "pods")
        labels = {pod["metadata"]["uid"]: pod["metadata"]["labels"] for pod in found}
        ids = {one.get("heteroscale.io/instance", uid): uid for uid, one in labels.items()}
        assert len(ids) == len(found), "a pod for each instance, and no other"
        return ids

    # ---- faults ----------------------------------------------------------------------------------

    async def hang_api_server(self) -> None:
        """Let the API server take requests, and answer none."""
        await self._pause_kubelet()
        assert self.kube.server
        self.kube.server.fault(Fault(Wrong.HANG))

    def heal_api_server(self) -> None:
        """Undo it."""
        assert self.kube.server
        self.kube.server.heal()
        self.run_kubelet()

    def run_kubelet(self) -> None:
        """Play the kubelets from now on."""
        self._ticks = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.to_thread(self.kubelet.tick)
            await asyncio.sleep(0.3)

    async def _pause_kubelet(self) -> None:
        if self._ticks is not None:
            self._ticks.cancel()
            await asyncio.gather(self._ticks, return_exceptions=True)
            self._ticks = None


def world_of(one: pb.Instance) -> str:
    """Return where an instance stands; agents of hosts have no cluster in their names."""
    (world,) = {a.partition("/")[0] if "/" in a else METAL for a in one.agent_ids}
    return world


def slurm_options(slurm: SlurmCluster) -> dict[str, Any]:
    """Return the adapter's options for a real Slurm, asked by its commands."""
    return {
        "way": "command",
        "command": {"config": slurm.environ["SLURM_CONF"]},
        "templates": [{"name": r, "role": r, "gpus": 1, "script": ENGINE} for r in ROLES],
    }


def kubernetes_options(kube: Kube) -> dict[str, Any]:
    """Return the adapter's options for the API server."""
    spec = {"containers": [{"name": "engine", "image": "example.invalid/engine:1"}]}
    return {
        "kubeconfig": str(kube.config),
        "namespace": kube.namespace,
        "topology": {"s1": ["rack"]},
        "gpus": {"typeLabels": ["gpu"]},
        "templates": [{"name": r, "role": r, "gpus": 1, "pod": {"spec": spec}} for r in ROLES],
    }


@contextlib.contextmanager
def api_server(folder: Path) -> Iterator[Kube]:
    """Serve, with everything that is played beside it."""
    server = ApiServer(controllers=play).start()
    try:
        kube = Kube(server.kubeconfig(folder / "kubeconfig"), server).open()
        try:
            yield kube
        finally:
            server.heal()
            kube.close()
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def federation(folder: Path, rules: Rules = QUICK) -> AsyncIterator[Federation]:
    """Run all of it."""
    nodes = [Machine(f"n{n}", f"gpu:H20:{GPUS}", "leaf") for n in (1, 2)]
    async with contextlib.AsyncExitStack() as stack:
        slurm = await stack.enter_async_context(slurm_cluster(nodes))
        kube = stack.enter_context(api_server(folder))
        kubelet = Kubelet(kube)
        for name in ("k1", "k2"):
            kubelet.join(name, gpus=GPUS, labels={"rack": "rack", "gpu": "H20"})
        adapters = [
            {"name": HPC, "kind": "slurm", "options": slurm_options(slurm), "pace": PACE},
            {"name": EAST, "kind": "kubernetes", "options": kubernetes_options(kube), "pace": PACE},
        ]
        layout = _layout(folder, rules, adapters)
        made = await stack.enter_async_context(fleet.fleet(layout))
        stage = Federation(made.cluster, made.operator)
        stage.slurm, stage.kube, stage.kubelet = slurm, kube, kubelet
        stage.run_kubelet()
        stack.push_async_callback(stage._pause_kubelet)
        await stage.until_agents(6)
        yield stage


def _layout(folder: Path, rules: Rules, adapters: Sequence[Mapping[str, Any]]) -> Layout:
    hosts = fleet.hosts("H20", "H20", gpus=GPUS, physical_cluster=METAL)
    home = folder / "local"
    home.mkdir()
    return fleet.layout(home, hosts=hosts, rules=rules, coordinator_spec={"adapters": adapters})
