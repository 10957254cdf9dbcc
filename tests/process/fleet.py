"""A small fleet of real processes, and the questions that tests of faults ask of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from heteroscale.convert import from_wire
from heteroscale.v1 import operator_pb2
from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.local import Host, Layout, LocalCluster, until
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.cluster.processes import Part
from heteroscale_workbench.demo.profile import SERVICE, DemoProfile
from heteroscale_workbench.load import Arrival, LoadOptions, LoadRun

PATIENCE = 50.0
"""Seconds any one thing may take on a machine with two busy cores."""
KV_LEASE = 4.0
"""A dead decode leaves its clients hanging for so long."""
TAIL = 12
"""Lines of each log that a failing test shows."""
SCRAPES = re.compile(r"\b(GET:? /(metrics|health)\b|nanobind|leaked (type|function|instance))")
"""What engines' logs are full of: scrapes, and what bindings say of themselves at the end."""
LIVE = (InstanceState.PENDING, InstanceState.LAUNCHING, InstanceState.WARMING)


def hosts(*gpu_types: str, gpus: int = 2, **more: Any) -> list[Host]:
    """Return one host for each GPU type, all in one S1 domain."""
    return [
        Host(f"agent-{i}", (kind,) * gpus, "minipod-0", **more) for i, kind in enumerate(gpu_types)
    ]


def layout(folder: Path, *, options: tuple[str, ...] = (), **changes: Any) -> Layout:
    """Return a layout of two agents with two GPUs each unless told otherwise."""
    base: dict[str, Any] = {
        "hosts": hosts("L20", "H20"),
        "rules": DemoProfile().rules(),
        "engine_startup": 0.3,
        "reconcile_interval": 0.5,
        "engine_options": ("--kv-lease", str(KV_LEASE), *options),
    }
    return Layout(folder, **{**base, **changes})


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance as an operator sees it."""

    id: str
    role: Role
    state: InstanceState
    agent: str
    endpoint: str
    message: str
    generation: int
    running: float | None


class Fleet:
    """A running cluster with an operator's client."""

    def __init__(self, cluster: LocalCluster, operator: Operator) -> None:
        self.cluster, self.operator = cluster, operator

    # ---- the service -----------------------------------------------------------------------------

    async def serve(
        self,
        prefill: tuple[int, int] = (1, 1),
        decode: tuple[int, int] = (1, 1),
        *,
        ready: bool = True,
        **spec: Any,
    ) -> None:
        """Apply the demo's service with (min, max) of each role; wait until the minimum serves."""
        await self.operator.apply(document(self.cluster, prefill, decode, **spec))
        if ready:
            await self.counts(prefill[0], decode[0])

    async def counts(self, prefill: int, decode: int) -> None:
        """Wait until exactly so many are in service, and none on its way."""

        async def there() -> bool:
            self.cluster.coordinator.require()
            seen = await self.instances()
            return (
                sum(one.state in LIVE for one in seen) == 0
                and len(_serving(seen, Role.PREFILL)) == prefill
                and len(_serving(seen, Role.DECODE)) == decode
            )

        await self.until(there, f"{prefill} prefill and {decode} decode in service")

    async def instances(self, *states: InstanceState) -> list[Seen]:
        """Return the service's instances, of these states or of all."""
        found = [_seen(one) for one in await self.operator.instances(SERVICE)]
        return [one for one in found if not states or one.state in states]

    async def serving(self, role: Role) -> list[Seen]:
        """Return the instances of a role that are in service."""
        return _serving(await self.instances(), role)

    async def instance(self, instance_id: str) -> Seen:
        """Return one instance."""
        return next(one for one in await self.instances() if one.id == instance_id)

    async def reaches(self, instance_id: str, state: InstanceState) -> Seen:
        """Wait until an instance is in a state, and return it."""

        async def there() -> bool:
            return (await self.instance(instance_id)).state is state

        await self.until(there, f"{instance_id} {state}")
        return await self.instance(instance_id)

    async def acted(self) -> list[operator_pb2.Decision]:
        """Return the decisions that did something, newest first."""
        found = await self.operator.decisions(SERVICE)
        return [one for one in found if one.action != "hold"]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds."""
        await until(condition, PATIENCE, what)

    # ---- parts -----------------------------------------------------------------------------------

    async def workers(self, router: int = 0) -> set[str]:
        """Return the endpoints that a router lists; empty when it is not there."""
        try:
            return {worker.url for worker in await self.cluster.routers[router].workers()}
        except httpx.TransportError:
            return set()

    def process(self, instance_id: str) -> psutil.Process:
        """Return an engine's process."""
        return self.cluster.engine_processes()[instance_id]

    def started(self) -> dict[str, tuple[int, float]]:
        """Return (pid, start time) of every engine process by instance id."""
        found = self.cluster.engine_processes()
        return {name: (p.pid, p.create_time()) for name, p in found.items()}

    def seen_by(self, role: Role, pid: int | None, load: LoadRun) -> frozenset[str]:
        """Return the ids of a load's requests that one engine of a role was sent; None: any."""
        files = self.cluster.seen_dir.glob(f"{role}-{pid or '*'}-*.ids")
        ids = (name for file in files for name in file.read_text("ascii").split())
        return frozenset(name for name in ids if name.startswith(f"{load.run_id}-"))

    async def ready(self) -> bool:
        """Whether the coordinator says it is ready."""
        url = f"http://127.0.0.1:{self.cluster.http_port}/readyz"
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            return (await http.get(url)).status_code == httpx.codes.OK

    def load(
        self, rate: float, prompt: int, output: int, *, seconds: float = 90.0, timeout: float = 30.0
    ) -> LoadRun:
        """Return a load of equal requests at even distances; ``stop()`` ends it early."""
        arrivals = [Arrival(i / rate, prompt, output) for i in range(round(seconds * rate))]
        options = LoadOptions(seen_dir=self.cluster.seen_dir, timeout=timeout)
        return LoadRun(self.cluster.url, arrivals, options)

    def tails(self, lines: int = TAIL) -> str:
        """Return the last log lines of every part, for a failing test's eyes; no engine's scrapes."""
        parts = [self.cluster.coordinator, *self.cluster.agents.values()]
        logs = sorted(self.cluster.directory.glob("*/state/engines/*.log"))
        engines = [Part(log.stem, (), log) for log in logs]
        tails = {part.name: part.tail(lines, SCRAPES) for part in [*parts, *engines]}
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails.items())

    async def told(self) -> str:
        """Return what an operator sees and why it is so, for a failing test's eyes."""
        try:
            seen, decisions = await self.instances(), await self.operator.decisions(SERVICE)
        except Error as error:
            return f"the coordinator does not answer: {error.details()}"
        holds = [one for one in decisions if one.action == "hold"][:1]
        acted = [one for one in decisions if one.action != "hold"]
        lines = [
            *(f"{one.role} {one.id} {one.state} {one.endpoint} {one.message}" for one in seen),
            f"in the router: {sorted(await self.workers())}",
            *(f"{one.action}: {one.reason}" for one in [*reversed(acted), *holds]),
        ]
        return "--- instances, router, decisions\n" + "\n".join(lines)


@contextlib.asynccontextmanager
async def fleet(how: Layout, *, tail: int = TAIL) -> AsyncIterator[Fleet]:
    """Run a fleet; when the block fails the error carries the logs, and no process is left.

    ``tail``: how many lines of each log.
    """
    cluster = LocalCluster(how)
    operator = cluster.operator()
    made = Fleet(cluster, operator)
    try:
        await cluster.start()
        yield made
    except BaseException as error:
        error.add_note(await made.told())
        error.add_note(made.tails(tail))
        raise
    finally:
        try:
            await operator.__aexit__(None, None, None)
        finally:
            await cluster.stop()
        assert cluster.engine_processes() == {}, "an engine outlived its cluster"
        parts = [cluster.coordinator, *cluster.agents.values()]
        unruly = [part for part in parts if part.status not in (None, 0)]
        assert not unruly, f"did not end in order: {[(p.name, p.status) for p in unruly]}"


def document(
    cluster: LocalCluster, prefill: tuple[int, int], decode: tuple[int, int], **spec: Any
) -> str:
    """Return the demo's service as YAML: bounds of both roles, a wide ratio, and changes."""
    plain: dict[str, Any] = DemoProfile().service([router.url for router in cluster.routers])
    body = plain["spec"]
    for role, (least, most) in (("prefill", prefill), ("decode", decode)):
        body["roles"][role] |= {"min": least, "max": most}
    body["ratio"] = {"min": 0.1, "max": 10.0}
    _merge(body, spec)
    return yaml.safe_dump(plain, sort_keys=False)


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _serving(seen: list[Seen], role: Role) -> list[Seen]:
    return [one for one in seen if one.role is role and one.state is InstanceState.IN_SERVICE]


def _seen(one: operator_pb2.Instance) -> Seen:
    role, state = from_wire(Role, one.role), from_wire(InstanceState, one.state)
    assert role is not None
    assert state is not None
    return Seen(
        one.instance_id,
        role,
        state,
        one.agent_ids[0] if one.agent_ids else "",
        one.endpoint,
        one.message,
        one.generation,
        one.running if one.HasField("running") else None,
    )
