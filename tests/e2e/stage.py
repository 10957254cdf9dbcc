"""A fleet of one agent whose engines are real: what is asked of it, and the traffic it bears."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.rules import Rules
from heteroscale_workbench.cluster import engines
from heteroscale_workbench.cluster.local import Host, Layout, LocalCluster, until
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.demo.profile import SERVICE
from tests.e2e.traffic import Traffic, clean
from tests.process.fleet import Fleet, Seen, fleet

PATIENCE = 420.0
"""Seconds any one thing may take: a real engine's start takes 30 s alone, minutes on a busy machine."""
STORY = 1200.0
"""Seconds a whole story may take; pytest's own limit is longer, so that the fleet is ended in order."""
MOST = 1000
"""Decisions that a coordinator tells at a time; holds are among them."""
TAIL = 60
"""Lines of each log that a failing story shows."""
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
    "hold": "0s",
    "reserve": {"deviations": 0},
    "cooldownOut": "4s",
    "cooldownIn": "6s",
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


def layout(folder: Path, engine: Engine) -> Layout:
    """Return one host that may start the engine's templates; its GPUs are more than anyone wants."""
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
        hosts=[Host("agent-0", ("L20",) * 3, "minipod-0")],
        rules=RULES,
        disaggregated=False,
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

    def __init__(self, cluster: LocalCluster, operator: Operator, engine: Engine) -> None:
        super().__init__(cluster, operator)
        self.engine = engine
        self._traffic: Traffic | None = None

    async def wait(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until a condition holds; a request, an engine or a part that failed fails it at once."""

        async def holds() -> bool:
            if self._traffic is not None:
                self._traffic.require()
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

    async def until_out(self, instance: Seen) -> None:
        """Wait until the router lists an instance no more."""

        async def out() -> bool:
            return bool(others := await self.workers()) and instance.endpoint not in others

        await self.wait(out, f"the router to let {instance.id} go")

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
        found = await self.operator.decisions(SERVICE, MOST)
        return [one.action for one in reversed(found) if one.action != "hold"]

    async def metric(self, instance: Seen, name: str) -> float:
        """Return a metric straight from the engine, summed over its labels and names: a pattern."""
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
        self._traffic = Traffic(url or self.cluster.url, MODEL, prompt, output, PATIENCE)
        try:
            yield self._traffic
            clean(await self._traffic.end())
        finally:
            traffic, self._traffic = self._traffic, None
            await traffic.drop()

    async def until_answered(self, traffic: Traffic) -> None:
        """Pace nothing more, and wait until nothing is in flight."""
        traffic.level = 0.0

        async def empty() -> bool:
            return traffic.in_flight == 0

        await self.wait(empty, "every answer")


@contextlib.asynccontextmanager
async def playing(how: Layout, engine: Engine) -> AsyncIterator[Stage]:
    """Run a fleet for one story; one that fails, or takes too long, tells all that can be known."""
    async with fleet(how, tail=TAIL) as made, asyncio.timeout(STORY):
        yield Stage(made.cluster, made.operator, engine)


@contextlib.contextmanager
def held_still(process: psutil.Process) -> Iterator[None]:
    """Stop (SIGSTOP) a process and its children while inside: what they have begun does not end."""
    still = engines.tree(process)
    for one in still:
        one.suspend()
    try:
        yield
    finally:
        for one in still:
            with contextlib.suppress(psutil.Error):
                one.resume()
