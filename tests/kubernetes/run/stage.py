"""The whole of a run: nodes, router, Prometheus, coordinator, and what a test asks of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import grpc.aio
import httpx
import yaml

from heteroscale.convert import from_wire
from heteroscale.documents import write_document
from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.operator import Operator
from heteroscale_workbench.cluster.processes import Part
from heteroscale_workbench.demo.profile import SERVICE, DemoProfile
from heteroscale_workbench.load import Arrival, LoadOptions, LoadRun
from heteroscale_workbench.router import Router, free_port
from tests.kubernetes.deploy.grants import USER
from tests.kubernetes.deploy.kustomize import resolve
from tests.kubernetes.deploy.leader_worker_set import DEFINITION
from tests.kubernetes.deploy.test_overlays import DEPLOY
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.run.endpoints import Endpoints
from tests.kubernetes.run.nodes import Nodes
from tests.prometheus.server import Target, prometheus, scrape
from tests.traffic import sent

Json = dict[str, Any]
PATIENCE = 120.0
"""Seconds after which what a test waits for is not coming."""
FORBIDDEN = 403
S = InstanceState
PROMPT, OUTPUT, LONG = 64, 60, 300
"""Tokens; a long answer takes longer than an instance is watched before it is drained."""
POLICY = {
    "windowOut": "4s", "windowIn": "5s", "hold": "0s", "cooldownOut": "1s", "cooldownIn": "2s",
    "observation": "3s", "freshness": "10s", "leastStepIn": 0,
}  # fmt: skip
RULES = DemoProfile().rules().model_copy(update={"silent_after": 20.0, "lost_after": 120.0})
"""A machine may be too busy for a word in four seconds, and nobody is to be replaced for that."""
DRAIN = {"settle": "3s", "quietScrapes": 3, "grace": "5s", "lease": "20s", "forceAfter": None}
"""Nothing is stopped by force: what is not seen to be empty stays."""
CLUSTER, GPUS = "east", 8
LWS = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
_ENVIRON = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    gate: Json
    """The adapter's rule: how traffic is kept from a pod."""
    selector: Mapping[str, str]
    """Labels of the pods that the router is to have, if they are Ready."""
    signals: Literal["prometheus", "agents"]
    """Who tells how the engines are: a Prometheus, or an agent on each node."""
    nodes: int = 4
    pods: tuple[str, ...] = ()
    """Roles whose pods stand for themselves."""
    groups: tuple[str, ...] = ()
    """Roles of two pods an instance, groups of a LeaderWorkerSet. Others have a Deployment."""


class Stage:
    """See the module."""

    def __init__(self, kubelet: Kubelet, folder: Path, plan: Plan) -> None:
        self.kubelet, self.kube, self.folder, self.plan = kubelet, kubelet.kube, folder, plan
        self.port, self.http_port, self.engine_port = free_port(), free_port(), free_port()
        self.seen_dir = folder / "seen"
        self.nodes = Nodes(kubelet, folder)
        self.router = Router(log=folder / "router.log", policy="round_robin")
        self.endpoints = Endpoints(self.nodes, self.router, plan.selector)
        self.operator = Operator(f"127.0.0.1:{self.port}")
        self.most: Counter[Role] = Counter()
        """The most of each role that were in service at once."""
        command = [sys.executable, "-m", "heteroscale_coordinator", "run", "-c"]
        config = folder / "coordinator.yaml"
        log = folder / "coordinator.log"
        self.coordinator = Part("coordinator", [*command, str(config)], log, _ENVIRON)
        self.agents: list[Part] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._spec: Json = {}

    async def start(self) -> None:
        """Start all, the coordinator last, and wait until it has the cluster's nodes."""
        self.seen_dir.mkdir()
        if self.plan.groups:
            self.kube.create(DEFINITION)
        for number in range(self.plan.nodes):
            labels = {"example.com/rack": f"rack-{number // 2}"}
            labels["nvidia.com/gpu.product"] = f"NVIDIA-{'L20' if number > 1 else 'H20'}"
            await asyncio.to_thread(self.kubelet.join, f"n{number}", gpus=GPUS, labels=labels)
        await self.router.start()
        self._tasks = [asyncio.create_task(each.run()) for each in (self.nodes, self.endpoints)]
        if self.plan.signals == "prometheus":
            url = await self._stack.enter_async_context(prometheus(self.folder))
            self._spec["prometheus"] = {"main": {"url": url, "interval": "1s"}}
            self._tasks.append(asyncio.create_task(self._scrape()))
        config = self.folder / "coordinator.yaml"
        config.write_text(write_document(self._document()), "utf-8")
        await self.coordinator.start()
        await self.until(self._has_nodes, "the cluster's nodes")
        if self.plan.signals == "agents":
            if self.kube.server is not None:
                for kind in ("ClusterRole", "ClusterRoleBinding"):
                    self.kube.create(_deployed(kind))
            self.agents = [self._agent(name) for name in sorted(self.kubelet.nodes)]
            for agent in self.agents:
                await agent.start()

    async def close(self) -> None:
        """Stop all, and leave no process behind."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.operator.__aexit__(None, None, None)
        for part in (*self.agents, self.coordinator):
            await part.stop()
        await self.endpoints.close()
        await self.router.stop()
        await self.nodes.close()
        await self._stack.aclose()
        for one in ended:
            if isinstance(one, Exception):
                raise one

    def _document(self) -> Json:
        options = {
            "kubeconfig": str(self._login()),
            "namespace": self.kube.namespace,
            "topology": {"s1": ["example.com/rack"]},
            "gate": self.plan.gate,
            "templates": [self._template("prefill"), self._template("decode")],
        }
        spec = {
            "listen": f"127.0.0.1:{self.port}",
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "dataDir": str(self.folder / "data"),
            "rules": RULES.document(),
            "adapters": [{"name": CLUSTER, "kind": "kubernetes", "options": options}],
        }
        return {
            "apiVersion": "heteroscale/v1",
            "kind": "Coordinator",
            "spec": spec | self._spec,
        }

    def _agent(self, node: str) -> Part:
        """Return a node's agent, as a DaemonSet runs one: it may list pods, and starts nothing."""
        folder = self.folder / node
        folder.mkdir()
        (folder / "token").write_text(self._agents_token(), "utf-8")
        (folder / "ca").write_bytes(self.kube.reach.authority)
        access = {"apiServer": self.kube.url, "tokenFile": str(folder / "token")}
        access["caFile"] = str(folder / "ca")
        document = yaml.safe_load(_deployed("ConfigMap")["data"]["agent.yaml"])
        spec: Json = document["spec"]
        del spec["tls"]
        spec |= {
            "coordinator": f"127.0.0.1:{self.port}",
            "stateDir": str(folder / "state"),
            "reconnectWithin": "2s",
            "kubernetes": {**access, "nodeName": node, "cluster": CLUSTER},
        }
        spec["discovery"]["kubernetes"] |= {"every": "1s", "namespace": self.kube.namespace}
        (folder / "agent.yaml").write_text(write_document(document), "utf-8")
        command = [sys.executable, "-m", "heteroscale_agent", "run", "-c"]
        return Part(node, [*command, str(folder / "agent.yaml")], folder / "log", _ENVIRON)

    def _login(self) -> Path:
        """Return the coordinator's login: on our server it has the rights that are deployed, no more."""
        if self.kube.server is None:
            return self.kube.config
        for one in resolve(DEPLOY / "adapter"):
            if "namespace" in one["metadata"]:
                one["metadata"]["namespace"] = self.kube.namespace
            self.kube.create(one)
        token = self.kube.server.token(USER)
        return self.kube.server.kubeconfig(self.folder / "login", token)

    def _agents_token(self) -> str:
        """Return an agent's token, with the rights of the DaemonSet."""
        if self.kube.server is None:
            return self.kube.token
        return self.kube.server.token("system:serviceaccount:heteroscale:heteroscale-agent")

    def _template(self, role: str) -> Json:
        command = [
            *(sys.executable, "-m", "heteroscale_workbench.engine_sim", "--mode", role),
            *("--host", "$(POD_IP)", "--port", str(self.engine_port), "--startup", "0.3"),
        ]
        env = [
            {"name": "HETEROSCALE_SEEN_DIR", "value": str(self.seen_dir)},
            {"name": "HETEROSCALE_INSTANCE_ID", "value": "pod"},
        ]
        container = {
            "name": "engine", "image": "example.invalid/engine:1", "command": command, "env": env,
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }  # fmt: skip
        labels = {"app": f"{SERVICE}-{role}"}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        plain = {
            "name": role,
            "role": role,
            "gpus": 1,
            "engine": "sglang",
            "port": self.engine_port,
        }
        if role in self.plan.pods:
            return {**plain, "pod": pod}
        if role in self.plan.groups:
            group = {"leaderWorkerTemplate": {"size": 2, "workerTemplate": pod}}
            return {**plain, "object": {**LWS, "spec": group}}
        spec = {"selector": {"matchLabels": labels}, "template": pod}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}
        return {**plain, "object": manifest}

    async def _scrape(self) -> None:
        """Have Prometheus scrape the pods, named as its own discovery does: not by their addresses."""
        known: list[Target] = []
        while True:
            found = [
                Target(
                    urlsplit(one.url).netloc,
                    {"pod": one.pod, "namespace": self.kube.namespace, "instance": one.pod},
                )
                for one in self.nodes.living()
            ]
            if found != known:
                scrape(self.folder, found)
                known = found
            await asyncio.sleep(0.2)

    async def apply(self, **roles: Json) -> None:
        """Apply the service; ``roles`` are laid over its roles."""
        plain: Json = DemoProfile().service([])
        body = plain["spec"]
        del body["gate"]
        for role, said in roles.items():
            body["roles"][role] |= said
        for role in self.plan.groups:
            body["roles"][role]["ranks"] = 2
        body["policy"] |= POLICY
        body["drain"] = DRAIN
        if self.plan.signals == "prometheus":
            body["signals"] = {"source": "prometheus", "select": 'job="engines"'}
        await self.operator.apply(write_document(plain))

    # ---- what is -----------------------------------------------------------------------------------

    async def counts(self, state: InstanceState = S.IN_SERVICE) -> Counter[Role]:
        """Return how many of each role are in a state."""
        found: Counter[Role] = Counter()
        for one in await self.operator.instances(SERVICE):
            role = from_wire(Role, one.role)
            if role is not None and from_wire(S, one.state) is state:
                found[role] += 1
        if state is S.IN_SERVICE:
            self.most |= found
        return found

    async def alone(self) -> bool:
        """Return whether all that lives is in service, and the router has just these."""
        live = Counter(from_wire(S, one.state) for one in await self.operator.instances(SERVICE))
        if set(live) - {S.IN_SERVICE, S.TERMINATED}:
            return False
        workers = [one for one in await self.router.workers() if one.healthy]
        leaders = [one for one in self.nodes.living() if one.rank == 0]
        return len(workers) == live[S.IN_SERVICE] == len(leaders)

    async def decided(self) -> list[Any]:
        """Return the decisions that did something, oldest first."""
        found = await self.operator.decisions(SERVICE)
        return [one for one in reversed(found) if one.action != "hold"]

    def nothing_was_cut(self, least: int) -> None:
        """Assert that so many engines ended at least, each one empty, and in time."""
        gone = [one for one in self.nodes.ended() if one.rank == 0]  # others get no requests
        assert len(gone) >= least
        assert {(one.running, one.killed, one.status) for one in gone} == {(0, False, 0)}

    def rights_sufficed(self) -> None:
        """Assert that nobody was refused anything for want of rights."""
        if self.kube.server is not None:
            refused = [one for one in self.kube.server.seen() if one.code == FORBIDDEN]
            assert refused == []

    async def nothing_was_unexpected(self) -> None:
        """Assert that no instance changed in a way that surprised the coordinator."""
        told = [one.message for one in await self.operator.instances(SERVICE)]
        assert [message for message in told if "unexpected" in message] == []

    async def steps_were_whole(self) -> None:
        """Assert that each launch of a decision became a pod whose engine ran."""
        ran = {one.instance for one in self.nodes.engines.values()}
        for one in await self.decided():
            if one.action == "scale_out":
                assert set(one.instance_ids) <= ran, one.reason

    def break_watches(self) -> None:
        """Have the API server end all watches and forget the past, as real ones do now and then."""
        if self.kube.server is not None:
            self.kube.server.expire()

    # ---- waiting -----------------------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE
    ) -> None:
        """Wait until the condition holds; a coordinator that does not answer says neither."""
        try:
            async with asyncio.timeout(patience):
                while True:
                    for task in self._tasks:
                        if task.done():
                            task.result()
                    with contextlib.suppress(grpc.aio.AioRpcError, httpx.HTTPError):
                        if await condition():
                            return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(
                f"not within {patience:g} s: {what}\n{await self.told()}"
            ) from None

    async def until_serving(self, prefill: int, decode: int) -> None:
        """Wait until exactly these counts serve, and nothing else is there."""

        async def there() -> bool:
            wanted = {Role.PREFILL: prefill, Role.DECODE: decode}
            return await self.counts() == wanted and await self.alone()

        await self.until(there, f"{prefill} prefill and {decode} decode in service, and no other")

    async def until_withdrawn(self) -> None:
        """Wait until a pod's gate is closed."""

        async def there() -> bool:
            return any(
                one["metadata"]["labels"].get("heteroscale.io/gate") == "closed"
                for one in self.nodes.pods
            )

        await self.until(there, "a pod whose gate is closed")

    async def _has_nodes(self) -> bool:
        self.coordinator.require()
        return len(await self.operator.nodes()) >= len(self.kubelet.nodes)

    async def told(self) -> str:
        """Return what an operator sees and why it is so, for a failing test's eyes."""
        lines = [f"workers: {[(w.url, w.role, w.healthy) for w in await self.router.workers()]}"]
        with contextlib.suppress(grpc.aio.AioRpcError):
            for one in await self.operator.instances(SERVICE):
                state, role = from_wire(S, one.state), from_wire(Role, one.role)
                lines.append(f"{one.instance_id} {role} {state} {one.endpoint} {one.message}")
            decisions = await self.operator.decisions(SERVICE)
            lines += [
                f"{one.time.ToJsonString()} {one.action}: {one.reason}"
                for one in reversed(decisions)
            ]
        logs = [f"--- {one.name}\n{one.tail(20)}" for one in (self.coordinator, *self.agents)]
        return "\n".join([*lines[-60:], *logs])

    # ---- traffic -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def traffic(self, rate: float, output: int = OUTPUT) -> AsyncIterator[LoadRun]:
        """Send steady traffic while inside; at the end every request must have been answered well."""
        arrivals = [Arrival(i / rate, PROMPT, output) for i in range(round(rate * 300))]
        options = LoadOptions(seen_dir=self.seen_dir, timeout=120.0)
        run = LoadRun(self.router.url, arrivals, options)
        async with sent(run):
            yield run


def _deployed(kind: str) -> Json:
    """Return an object of the agents' DaemonSet, as it is deployed."""
    text = (DEPLOY / "agent" / "daemonset.yaml").read_text("utf-8")
    return next(dict(one) for one in yaml.safe_load_all(text) if one["kind"] == kind)


@contextlib.asynccontextmanager
async def stage(kubelet: Kubelet, folder: Path, plan: Plan) -> AsyncIterator[Stage]:
    """Run a stage; stop it whatever happens."""
    made = Stage(kubelet, folder, plan)
    try:
        await made.start()
        yield made
    finally:
        await made.close()
    assert made.coordinator.status in (0, None), made.coordinator.tail(30)
