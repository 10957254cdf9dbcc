"""A fleet of one agent whose engines are real: what is asked of it, and the traffic it bears."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import yaml

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.rules import Rules
from heteroscale_workbench.cluster.local import Host, Layout, until
from heteroscale_workbench.cluster.operator import Error
from heteroscale_workbench.demo.profile import SERVICE
from heteroscale_workbench.demo.traffic import Asked, Pacer
from heteroscale_workbench.load import LoadOptions, LoadReport, LoadRun
from tests.process.fleet import Fleet, Seen

PATIENCE = 420.0
"""Seconds any one thing may take: a real engine's start takes 30 s alone, minutes on a busy machine."""
PACE = 0.1
MODEL = "tiny"
RULES = Rules(
    tick=0.5,
    report_interval=0.5,
    silent_after=30.0,
    lost_after=90.0,
    cover_for=60.0,
    command_deadline=60.0,
    launch_backoff=2.0,
)
"""An engine that starts takes both cores: nobody is silent who is only slow."""
POLICY: Mapping[str, Any] = {
    "windowOut": "4s",
    "windowIn": "8s",
    "cooldownOut": "4s",
    "cooldownIn": "6s",
    "observation": "25s",
    "freshness": "20s",
}
DRAIN: Mapping[str, Any] = {
    "settle": "1s",
    "quietScrapes": 3,
    "forceAfter": None,
    "grace": "60s",
    "lease": "60s",
}


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of real engine, as an agent's document starts it, and how its log tells of requests."""

    name: str
    templates: Mapping[str, Any]
    served: re.Pattern[str]
    """Found once in an engine's log for each request that it was sent."""


def layout(folder: Path, engine: Engine, *, gpus: int = 2, disaggregated: bool = False) -> Layout:
    """Return one host with stub GPUs that may start the engine's templates."""
    templates = {
        name: {
            **template,
            # By this the cluster knows whose an engine is.
            "env": {**template.get("env", {}), "HETEROSCALE_SEEN_DIR": str(folder / "seen")},
        }
        for name, template in engine.templates.items()
    }
    return Layout(
        folder,
        hosts=[Host("agent-0", ("L20",) * gpus, "minipod-0")],
        rules=RULES,
        disaggregated=disaggregated,
        agent_spec={"templates": templates, "scrapeTimeout": "10s"},
    )


def service(roles: Mapping[str, Any], gate: Mapping[str, Any], **spec: Any) -> str:
    """Return a service's document; its durations are a person's, divided until a test can wait."""
    body = {"roles": roles, "gate": gate, "policy": POLICY, "drain": DRAIN, **spec}
    plain = {
        "apiVersion": "heteroscale/v1",
        "kind": "Service",
        "metadata": {"name": SERVICE},
        "spec": body,
    }
    return yaml.safe_dump(plain, sort_keys=False)


class Stage(Fleet):
    """A running cluster, and what a test asks of its real engines."""

    engine: Engine

    @classmethod
    def of(cls, made: Fleet, engine: Engine) -> Stage:
        """Return the stage over a fleet."""
        stage = cls(made.cluster, made.operator)
        stage.engine = engine
        return stage

    async def wait(self, condition: Any, what: str) -> None:
        """Wait until a condition holds; a part that has ended, or an engine, fails it at once."""

        async def holds() -> bool:
            for part in (self.cluster.coordinator, *self.cluster.agents.values()):
                part.require()
            try:
                failed = await self.instances(InstanceState.FAILED)
                assert not failed, [(one.id, one.message) for one in failed]
                return bool(await condition())
            except (Error, httpx.TransportError):
                return False  # who does not answer in time says neither

        await until(holds, PATIENCE, what, poll=0.2)

    async def until_serving(self, number: int) -> list[Seen]:
        """Wait until so many are in service, routed, and return them."""
        found: list[Seen] = []

        async def there() -> bool:
            found[:] = await self.instances(InstanceState.IN_SERVICE)
            return len(found) == number and await self.workers() == {one.endpoint for one in found}

        await self.wait(there, f"{number} in service, and all routers say so")
        return found

    async def until_one(self, state: InstanceState) -> Seen:
        """Wait until some instance is in a state, and return it."""
        found: list[Seen] = []

        async def there() -> bool:
            found[:] = await self.instances(state)
            return bool(found)

        await self.wait(there, f"an instance {state}")
        return found[0]

    async def until_state(self, instance_id: str, state: InstanceState) -> Seen:
        """Wait until an instance is in a state, and return it."""

        async def there() -> bool:
            return (await self.instance(instance_id)).state is state

        await self.wait(there, f"{instance_id} {state}")
        return await self.instance(instance_id)

    async def actions(self) -> list[str]:
        """Return what was decided so far, holds left out, oldest first."""
        return [one.action for one in reversed(await self.acted())]

    async def metric(self, instance: Seen, name: str) -> float:
        """Return a metric straight from the engine, summed over its labels; the name is a pattern."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            text = (await http.get(f"{instance.endpoint}/metrics")).text
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        assert found, f"no {name} in {text[:2000]}"
        return sum(map(float, found))

    def served(self) -> dict[str, int]:
        """Return how many requests each engine was sent, by its own log; ended ones too."""
        logs = self.cluster.directory.glob("*/state/engines/*.log")
        return {
            log.stem: len(self.engine.served.findall(log.read_text("utf-8", "replace")))
            for log in logs
        }

    @contextlib.asynccontextmanager
    async def traffic(self, prompt: int, output: int, url: str = "") -> AsyncIterator[Traffic]:
        """Send traffic while inside; at the end every request must have been answered well."""
        traffic = Traffic(url or self.cluster.url, prompt, output)
        try:
            yield traffic
            clean(await traffic.end())
        finally:
            await traffic.drop()


class Traffic:
    """Equal requests at even distances, at a ``level`` (output tokens per second) that may change."""

    def __init__(self, url: str, prompt: int, output: int) -> None:
        self.level = 0.0
        options = LoadOptions(
            model=MODEL, timeout=PATIENCE, connect_timeout=PATIENCE, exact_events=False
        )
        self.run = LoadRun(url, options=options, live=True)
        self._pacer = Pacer(repeat(Asked(1.0, prompt, output)), output)
        self._tasks = [asyncio.create_task(self._pace())]
        self._sending = asyncio.create_task(self.run.run())

    async def paused(self, stage: Stage) -> None:
        """Send nothing, and wait until nothing is in flight."""
        self.level = 0.0

        async def empty() -> bool:
            return self.run.snapshot().in_flight == 0

        await stage.wait(empty, "every answer")

    def ask(self, prompt: int, output: int) -> None:
        """Send one request of another size, now."""
        self.run.offer(prompt, output)

    async def end(self) -> LoadReport:
        """Send nothing more, wait for every answer, and report."""
        self._tasks[0].cancel()
        self.run.stop()
        return await self._sending

    async def drop(self) -> None:
        """End at once, whatever is in flight."""
        tasks = [*self._tasks, self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(PACE)
            now = loop.time()
            for asked in self._pacer.advance(now - last, self.level):
                self.run.offer(asked.prompt, asked.output)
            last = now


def clean(report: LoadReport) -> None:
    """Assert that every request had its exact tokens, a finish reason and ``[DONE]``."""
    told = [f"{one.at:.1f} s {one.kind.value}: {one.reason}" for one in report.failures]
    assert report.requests > 0
    assert (report.passed, report.failed_requests) == (report.requests, 0), told
    assert report.clean, told
