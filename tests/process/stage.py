"""A fleet whose counts a test sets exactly: what runs in it, how often it was started, what it serves.

Counts are set by bounds (min = max for both roles): raising them launches, lowering them withdraws
softly, and nothing else moves, so every instance that comes or goes has a known cause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from heteroscale.convert import from_wire
from heteroscale.v1 import operator_pb2
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.rules import Rules
from heteroscale_workbench.cluster.local import LocalCluster, until
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.demo.profile import SERVICE
from heteroscale_workbench.load import LoadOptions, LoadRun
from heteroscale_workbench.load.shapes import Curve, Lengths, generate
from heteroscale_workbench.seen import starts
from tests.process.fleet import Fleet, document
from tests.traffic import sent

RULES = Rules(
    tick=0.3,
    report_interval=0.3,
    silent_after=2.0,
    lost_after=6.0,
    cover_for=35.0,
    command_deadline=20.0,
    launch_backoff=1.0,
)
OBSERVATION = 60.0
"""Longer than any test looks, so that only a test that shortens it sees a scale-in finish."""
LEASE = 12.0
"""Outlasts the restart of a coordinator on a busy machine."""
SHORT_LEASE = 4.0
"""For tests that wait until one ends."""
PATIENCE = 45.0
"""Seconds after which what a test waits for is not coming."""
SPEC: dict[str, Any] = {
    "roles": {"prefill": {"target": 100_000.0}, "decode": {"target": 100_000.0}},
    "slo": {"ttft": "60s", "tbt": "60s"},
    "policy": {
        "windowOut": "2s",
        "windowIn": "3s",
        "hold": "0s",
        "freshness": "3s",
        "observation": f"{OBSERVATION:g}s",
    },
    "drain": {"settle": "0.3s", "quietScrapes": 2, "forceAfter": None},
}
LONG = 150
"""Output tokens of a request that takes some seconds."""
_S = InstanceState


class Stage(Fleet):
    """A running cluster with one service, and what a test asks of both."""

    def __init__(self, cluster: LocalCluster, operator: Operator) -> None:
        super().__init__(cluster, operator)
        self._policy: dict[str, Any] = {}
        self.lease = LEASE

    async def want(self, prefill: int, decode: int, **policy: Any) -> None:
        """Set the bounds, so that there shall be exactly these counts."""
        self._policy |= policy
        await self._bound((prefill, prefill), (decode, decode))

    async def allow_one_less(self, prefill: int, decode: int) -> None:
        """Set the bounds, so that one decode may leave when demand is low, as it is."""
        await self._bound((prefill, prefill), (decode - 1, decode))

    async def _bound(self, prefill: tuple[int, int], decode: tuple[int, int]) -> None:
        policy = {**SPEC["policy"], **self._policy}
        drain = {**SPEC["drain"], "lease": f"{self.lease:g}s"}
        spec = {**SPEC, "policy": policy, "drain": drain}
        await self.operator.apply(document(self.cluster, prefill, decode, **spec))

    # ---- what is -----------------------------------------------------------------------------------

    async def by_id(self) -> dict[str, operator_pb2.Instance]:
        """Return the service's instances by id, ended ones too."""
        return {one.instance_id: one for one in await self.operator.instances(SERVICE)}

    async def ids(self, *states: InstanceState, role: Role | None = None) -> set[str]:
        """Return the ids in one of these states; in any, when none is named."""
        return {
            instance_id
            for instance_id, one in (await self.by_id()).items()
            if (not states or state_of(one) in states) and role in (None, role_of(one))
        }

    async def live(self) -> Counter[InstanceState]:
        """Return how many instances stand in each state that is no end."""
        ended = (_S.FAILED, _S.TERMINATED)
        states = (state_of(one) for one in (await self.by_id()).values())
        return Counter(state for state in states if state not in ended)

    def starts(self) -> Counter[str]:
        """Return how many engine processes were ever started for each instance id."""
        return starts(self.cluster.seen_dir)

    async def routed(self) -> set[str]:
        """Return the instance ids that the first router lists."""
        by_url = {one.endpoint: name for name, one in (await self.by_id()).items()}
        workers = await self.cluster.routers[0].workers()
        return {by_url.get(worker.url, worker.url) for worker in workers}

    async def epoch(self) -> int:
        """Return the epoch that the coordinator leads with."""
        return round((await self.gauges())["heteroscale_epoch"])

    async def gauges(self) -> dict[str, float]:
        """Return the coordinator's metrics that have no label."""
        text = (await self.page("/metrics")).text
        rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {row[0]: float(row[1]) for row in rows if "{" not in row[0]}

    async def page(self, path: str) -> httpx.Response:
        """Return a page of the coordinator's HTTP face."""
        base = f"http://127.0.0.1:{self.cluster.http_port}"
        async with httpx.AsyncClient(base_url=base, timeout=5.0, trust_env=False) as client:
            return await client.get(path)

    async def actions(self) -> list[str]:
        """Return what was decided so far, holds left out, oldest first."""
        decisions = await self.operator.decisions(SERVICE)
        return [one.action for one in reversed(decisions) if one.action != "hold"]

    async def is_busy(self, instance_id: str) -> bool:
        """Whether an instance tells that it has requests running."""
        return ((await self.by_id())[instance_id].running or 0) > 0

    async def are(self, ids: set[str], state: InstanceState) -> bool:
        """Whether all of these instances are in a state."""
        return ids <= await self.ids(state)

    async def quality(self, signal: str, quality: str) -> bool:
        """Whether the last decision saw a signal in this quality."""
        told = (await self.operator.service(SERVICE)).signals
        return any(one.name == signal and one.quality == quality for one in told)

    async def condition(self) -> str:
        """Return what the coordinator says of the service as a whole."""
        return (await self.operator.service(SERVICE)).condition

    async def last_hold(self) -> operator_pb2.Decision:
        """Return the newest decision to do nothing."""
        decisions = await self.operator.decisions(SERVICE)
        return next(one for one in decisions if one.action == "hold")

    # ---- waiting -----------------------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE
    ) -> None:
        """Wait until the condition holds; a coordinator that does not answer says neither."""

        async def holds() -> bool:
            try:
                return bool(await condition())
            except (Error, httpx.HTTPError):
                return False

        await until(holds, patience, what, poll=0.05)

    async def until_serving(self, prefill: int, decode: int) -> dict[str, tuple[int, float]]:
        """Wait until these counts are in service, routed, and nothing else lives; return engines."""

        async def there() -> bool:
            serving = [await self.ids(_S.IN_SERVICE, role=r) for r in (Role.PREFILL, Role.DECODE)]
            if [len(found) for found in serving] != [prefill, decode]:
                return False
            alone = set(await self.live()) == {_S.IN_SERVICE}
            return alone and await self.routed() == serving[0] | serving[1]

        await self.until(there, f"{prefill} prefill and {decode} decode in service, and no other")
        return self.started()

    async def until_state(self, instance_id: str, *states: InstanceState) -> None:
        """Wait until an instance is in one of the states."""

        async def there() -> bool:
            return state_of((await self.by_id())[instance_id]) in states

        words = " or ".join(states)
        await self.until(there, f"{instance_id} {words}")

    async def until_any(self, *states: InstanceState, role: Role | None = None) -> str:
        """Wait until some instance is in one of the states, and return its id."""
        found: set[str] = set()

        async def there() -> bool:
            found.update(await self.ids(*states, role=role))
            return bool(found)

        await self.until(there, f"an instance {' or '.join(states)}")
        return found.pop()

    async def until_agents(self, number: int) -> None:
        """Wait until so many agents are connected."""
        await self.cluster.wait_for_agents(number)

    async def never(
        self, condition: Callable[[], Awaitable[Any]], what: str, seconds: float
    ) -> None:
        """Look for ``seconds`` on end, and fail as soon as the condition holds once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(Error, httpx.HTTPError):
                        assert not await condition(), what
                    await asyncio.sleep(0.1)

    async def outlasts_its_lease(self, instance_id: str, withdrawn_at: float) -> None:
        """Look until the lease of a withdrawal has long ended, and fail if it comes back."""

        async def left() -> bool:
            return await self.ids(_S.WITHDRAWN) != {instance_id}

        now = asyncio.get_running_loop().time()
        rest = max(2.0, withdrawn_at + 1.2 * self.lease - now)
        await self.never(left, f"{instance_id} left its withdrawal", rest)

    async def until_withdrawn(self) -> tuple[str, float]:
        """Wait until an instance is withdrawn; return it and the time, in the event loop's seconds."""
        found = await self.until_any(_S.WITHDRAWN)
        return found, asyncio.get_running_loop().time()

    # ---- traffic -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def traffic(self, rate: float = 3.0, seconds: float = 90.0) -> AsyncIterator[LoadRun]:
        """Send steady traffic while inside; at the end every request must have been answered well."""
        arrivals = generate(Curve.constant(rate), Lengths(64, 24), seconds, seed=1)
        options = LoadOptions(seen_dir=self.cluster.seen_dir, timeout=60.0)
        run = LoadRun(self.cluster.url, arrivals, options, live=True)
        async with sent(run):
            yield run


def state_of(instance: operator_pb2.Instance) -> InstanceState:
    """Return an instance's state."""
    state = from_wire(InstanceState, instance.state)
    assert state is not None
    return state


def role_of(instance: operator_pb2.Instance) -> Role:
    """Return an instance's role."""
    role = from_wire(Role, instance.role)
    assert role is not None
    return role
