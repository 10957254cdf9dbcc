"""A coordinator that has nothing on the nodes: a real Prometheus tells it, and KEDA asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import httpx

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import OperatorServiceStub
from heteroscale_coordinator.config import CoordinatorSpec, KedaSettings
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer
from heteroscale_workbench.engine_sim.faults import MetricsFault
from heteroscale_workbench.engine_sim.settings import Flavour
from tests.coordinator.keda import ScaledObject, dial
from tests.coordinator.test_serve import free_port, serving, settings
from tests.prometheus.server import PATIENCE, Target, prometheus, scrape
from tests.workbench import sims

CHAT = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  actuation: {by: external}
  signals: {source: prometheus}
  roles:
    prefill: {min: 1, max: 8, target: 5000}
    decode: {min: 2, max: 16, target: 1000}
  ratio: "1:2"
  policy: {freshness: 10s, windowOut: 5s, windowIn: 30s}
"""
HOW = sims.settings(flavour=Flavour.VLLM, model="chat")
BODY = {"model": "chat", "prompt": "six words are in this prompt", "max_tokens": 12}


@dataclass
class Pods:
    """Engines that somebody starts and stops, and a Prometheus that finds them."""

    folder: Path
    stack: AsyncExitStack
    running: dict[str, sims.Serving] = field(default_factory=dict)
    ends: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def stand(self, role: str, count: int) -> None:
        """Have so many of a role, as a Deployment does."""
        mine = sorted(name for name in self.running if role in name)
        for name in mine[count:]:
            await self.ends.pop(name).aclose()
            del self.running[name]
        for number in range(len(mine), count):
            name = f"chat-{role}-{number}"
            self.ends[name] = AsyncExitStack()
            self.stack.push_async_callback(self.ends[name].aclose)
            self.running[name] = await self.ends[name].enter_async_context(sims.serving(HOW))
        scrape(self.folder, self.targets())

    def targets(self) -> list[Target]:
        return [
            Target(urlsplit(one.url).netloc, {"pod": name, "namespace": "serving"})
            for name, one in self.running.items()
        ]


@asynccontextmanager
async def pods(folder: Path, prefill: int, decode: int) -> AsyncIterator[Pods]:
    async with AsyncExitStack() as stack:
        made = Pods(folder, stack)
        await made.stand("prefill", prefill)
        await made.stand("decode", decode)
        yield made


def beside(folder: Path, url: str) -> CoordinatorSpec:
    """Return a coordinator that knows this Prometheus, and waits for nothing long."""
    server = WatchedServer(url=url, interval=1.0, gone_after=3.0, timeout=30.0)
    keda = KedaSettings(listen=f"127.0.0.1:{free_port()}")
    rules = Rules(tick=0.2, report_interval=0.2, silent_after=60.0, cover_for=2.0)
    changed = {"keda": keda, "rules": rules, "prometheus": {"main": server}}
    return settings(folder).model_copy(update=changed)


async def told(channel: grpc.aio.Channel) -> pb.ExplainServiceResponse:
    request = pb.ExplainServiceRequest(name="chat", with_queries=True)
    answer: pb.ExplainServiceResponse = await OperatorServiceStub(channel).ExplainService(
        request, timeout=PATIENCE
    )
    return answer


async def counted(channel: grpc.aio.Channel) -> list[tuple[int, int]]:
    """Return how many of each role are in service, and unknown."""
    service = (await told(channel)).service
    return [(role.in_service, role.unknown) for role in service.roles]


async def test_keda_moves_pods_of_which_prometheus_alone_tells(tmp_path: Path) -> None:
    async with (
        pods(tmp_path, 1, 3) as cluster,
        prometheus(tmp_path, cluster.targets()) as url,
        serving(spec := beside(tmp_path, url)) as channel,
        dial(spec.keda.listen) as kedas,
    ):
        operators = OperatorServiceStub(channel)
        await operators.ApplyServices(pb.ApplyServicesRequest(document=CHAT), timeout=PATIENCE)
        refused = await scaled(channel, prefill=1, decode=3)
        assert "nothing is asked for yet of 'chat'" in refused
        prefill = ScaledObject(kedas, {"service": "chat", "role": "prefill"}, replicas=1)
        decode = ScaledObject(kedas, {"service": "chat", "role": "decode"}, replicas=3)

        async def ready() -> bool:
            await prefill.poll()
            await decode.poll()
            return prefill.ready and decode.ready

        await sims.until(ready, PATIENCE)
        assert (prefill.replicas, decode.replicas) == (1, 3)
        lines = "\n".join((await told(channel)).lines)
        assert "prometheus main, answered" in lines
        assert "4 of 4 engines used" in lines
        assert 'vllm:generation_tokens_total{model_name=~"chat|"}' in lines

        # What is asked for: both roles by one decision. The pods follow, and are found.
        assert await scaled(channel, prefill=2, decode=4) == ""
        await followed(cluster, channel, prefill, decode, (2, 4))
        assert await scaled(channel, prefill=1, decode=2) == ""
        await followed(cluster, channel, prefill, decode, (1, 2))

        # Work is seen: tokens of real requests, by way of the Prometheus alone.
        async def working() -> bool:
            for one in cluster.running.values():
                await one.post(BODY)
            signals = {s.name: s for s in (await told(channel)).decision.signals}
            seen = signals["decode_tps"]
            return seen.quality == "ok" and seen.value > 0

        await sims.until(working, PATIENCE)
        async with httpx.AsyncClient(base_url=f"http://{spec.http.listen}") as client:
            page = (await client.get("/metrics")).text
        assert 'heteroscale_prometheus_up{service="chat"} 1.0' in page
        assert 'heteroscale_prometheus_engines{service="chat",used="yes"} 3.0' in page


async def followed(
    cluster: Pods,
    channel: grpc.aio.Channel,
    prefill: ScaledObject,
    decode: ScaledObject,
    wanted: tuple[int, int],
) -> None:
    """Let KEDA ask and the pods follow, until just those stand that were asked for."""

    async def there() -> bool:
        await prefill.poll()
        await decode.poll()
        await cluster.stand("prefill", prefill.replicas)
        await cluster.stand("decode", decode.replicas)
        return await counted(channel) == [(wanted[0], 0), (wanted[1], 0)]

    await sims.until(there, PATIENCE)
    assert (prefill.replicas, decode.replicas) == wanted
    assert prefill.generation == decode.generation


async def scaled(channel: grpc.aio.Channel, *, prefill: int, decode: int) -> str:
    """Set counts by hand; return why not, or nothing."""
    request = pb.ScaleServiceRequest(name="chat", prefill=prefill, decode=decode)
    try:
        await OperatorServiceStub(channel).ScaleService(request, timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        return error.details() or ""
    return ""


async def test_what_is_not_scraped_is_unknown_and_a_silent_prometheus_takes_nothing_away(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(pods(tmp_path, 1, 2))
        running = AsyncExitStack()
        stack.push_async_callback(running.aclose)
        url = await running.enter_async_context(prometheus(tmp_path, cluster.targets()))
        channel = await stack.enter_async_context(serving(beside(tmp_path, url)))
        operators = OperatorServiceStub(channel)
        await operators.ApplyServices(pb.ApplyServicesRequest(document=CHAT), timeout=PATIENCE)

        async def becomes(*wanted: tuple[int, int]) -> bool:
            return await counted(channel) == [*wanted]

        await sims.until(lambda: becomes((1, 0), (2, 0)), PATIENCE)
        # Its page fails: the target is still there, so it is never gone, only unknown.
        silent = cluster.running["chat-decode-1"]
        silent.faults.metrics = MetricsFault.ERROR
        await sims.until(lambda: becomes((1, 0), (1, 1)), PATIENCE)
        silent.faults.metrics = None
        await sims.until(lambda: becomes((1, 0), (2, 0)), PATIENCE)
        await running.aclose()
        await sims.until(lambda: becomes((0, 1), (0, 2)), PATIENCE)
        answer = await told(channel)
        assert "FAILS" in answer.service.signals_from
        assert "cannot be reached" in answer.service.signals_from
