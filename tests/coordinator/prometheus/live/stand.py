"""A Prometheus on paper, a loop that folds with the real step, and a clock that is moved by hand.

The paper answers the few forms of query that a look asks, from samples with a time each. What a real
one answers to the same queries stands in tests/prometheus.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from heteroscale_coordinator.core.events import Event, ReportReceived, Tick
from heteroscale_coordinator.core.model import Inventory, Service
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from heteroscale_coordinator.edge.mailbox import Mailbox
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_coordinator.edge.prometheus.live.watcher import Watcher
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer

NOW = 1_750_000_000.0
AHEAD = 40.0
"""The server's clock is so much ahead of ours."""
CHAT: dict[str, Any] = {
    "actuation": {"by": "external"},
    "signals": {"source": "prometheus"},
    "roles": {"prefill": {"min": 1, "max": 8}, "decode": {"min": 1, "max": 8}},
}
_NAME = re.compile(r"\b(vllm:[a-z_]+|up)\b")
METRICS = {
    "vllm:num_requests_running": 2.0,
    "vllm:num_requests_waiting": 1.0,
    "vllm:generation_tokens_total": 100.0,
    "vllm:prompt_tokens_total": 1000.0,
    "vllm:time_to_first_token_seconds_sum": 8.0,
    "vllm:time_to_first_token_seconds_count": 4.0,
    "vllm:kv_cache_usage_perc": 0.5,
}


@dataclass
class Pod:
    """One engine as it was last scraped."""

    scraped_at: float
    metrics: dict[str, float] = field(default_factory=lambda: dict(METRICS))
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Paper:
    """The server. ``say`` answers instead of it, once it is set."""

    clock: Callable[[], float]
    pods: dict[str, Pod] = field(default_factory=dict)
    up: dict[str, float] = field(default_factory=dict)
    say: Callable[[httpx.Request], Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Beside `status` and `data` of every answer."""
    asked: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self.clock() + AHEAD

    def pod(self, name: str, **labels: str) -> Pod:
        told = {"pod": name, "model_name": "chat", "instance": f"{name}.pods:8000", **labels}
        made = self.pods[name] = Pod(self.now, labels=told)
        return made

    def scrape(self, name: str, **rise: float) -> None:
        """Let a pod be scraped now, with counters that have risen."""
        pod = self.pods[name]
        pod.scraped_at = self.now
        for metric, more in rise.items():
            pod.metrics[f"vllm:{metric}"] += more

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.say is not None:
            said = self.say(request)
            return said if isinstance(said, httpx.Response) else await said
        query = request.url.params["query"]
        self.asked.append(query)
        rows = [
            {"metric": labels, "value": [self.now, f"{value}"]}
            for labels, value in self._rows(query)
        ]
        data = {"resultType": "vector", "result": rows}
        return httpx.Response(
            200, content=json.dumps({"status": "success", "data": data, **self.extra})
        )

    def _rows(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        if query.startswith("{__name__"):
            name = "vllm:num_requests_running"
            return [
                ({"__name__": name, **p.labels}, p.metrics[name])
                for p in self.pods.values()
                if name in p.metrics
            ]
        if query == "vector(time())":
            return [({}, self.now)]
        if query.startswith("count by (__name__)"):
            names = {name for pod in self.pods.values() for name in pod.metrics}
            return [({"__name__": name}, 1.0) for name in sorted(names)]
        if query.startswith("max by (pod) (up"):
            return [({"pod": name}, value) for name, value in self.up.items()]
        if "time() - timestamp(" in query:
            return [({"pod": n}, self.now - p.scraped_at) for n, p in self.pods.items()]
        asked = _NAME.findall(query)
        return [
            ({"pod": n}, p.metrics[asked[0]]) for n, p in self.pods.items() if asked[0] in p.metrics
        ]


@dataclass
class Bench:
    """State, mailbox and clock, as a loop has them."""

    state: State = field(default_factory=State)
    mailbox: Mailbox = field(default_factory=Mailbox)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    time: float = NOW
    ids: Any = field(default_factory=count)
    reports: list[ReportReceived] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    async def lead(self, heard: int, *, ours: bool = False) -> int:
        return heard + ours

    def apply(self, spec: Mapping[str, Any] = CHAT, name: str = "chat") -> Service:
        made = Service(name, ServiceSpec.model_validate(spec))
        self.state.services[name] = made
        return made

    async def fold(self, *more: Event) -> None:
        """Take a turn over what is in the mailbox."""
        letters = await self.mailbox.take(0.0)
        events = [*(letter.event for letter in letters), *more, Tick()]
        self.reports += [one for one in events if isinstance(one, ReportReceived)]
        changes = step(self.state, events, self.time, lambda kind: f"{kind}-{next(self.ids)}")
        self.state.apply(changes)

    def shown(self) -> dict[str, tuple[str, str]]:
        """Return role and state of the instances that are found in the Prometheus, by name."""
        return {
            i.origin.removeprefix("prometheus "): (i.role.value, i.state.value)
            for i in self.state.instances.values()
            if i.origin.startswith("prometheus ")
        }


@dataclass
class Stand:
    """A service, its Prometheus, and the watcher between them."""

    bench: Bench
    paper: Paper
    watcher: Watcher
    client: PrometheusClient

    async def look(self, after: float = 10.0, scraped: bool = True) -> float:
        """Let time pass, have all pods scraped, look, and fold; return the wait until the next."""
        self.bench.time += after
        if scraped:
            for name in self.paper.pods:
                self.paper.scrape(name)
        wait = await self.watcher.turn()
        await self.bench.fold()
        return wait


def stand(spec: Mapping[str, Any] = CHAT, bench: Bench | None = None, **server: Any) -> Stand:
    """Return a stand with one prefill and two decodes."""
    bench = bench or Bench()
    service = bench.apply(spec)
    paper = Paper(bench.now)
    for name in ("chat-prefill-0", "chat-decode-0", "chat-decode-1"):
        paper.pod(name)
    told = WatchedServer.model_validate({"url": "http://prometheus:9090", **server})
    client = PrometheusClient(told, {}, httpx.MockTransport(paper.answer))
    watcher = Watcher(bench, "chat", service.spec.signals, told, client)
    watcher.hello()
    return Stand(bench, paper, watcher, client)
