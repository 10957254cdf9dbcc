"""The adapter of one Kubernetes cluster: reading is here, acting in rooms of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from kubernetes_asyncio.client.configuration import Configuration

from heteroscale_scheduler_adapters.kubernetes.acting import Hands
from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.connect import configuration
from heteroscale_scheduler_adapters.kubernetes.errors import (
    ForbiddenError,
    LoginError,
    NotFoundError,
)
from heteroscale_scheduler_adapters.kubernetes.mirror import Clock, Mirror
from heteroscale_scheduler_adapters.kubernetes.reading import Reader, revision_of
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings, read_settings
from heteroscale_scheduler_adapters.kubernetes.sources import quota_namespaces, sources
from heteroscale_scheduler_adapters.kubernetes.tending import Tended
from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Capabilities,
    Change,
    GateWish,
    Running,
    SettingsError,
    Step,
    UnavailableError,
    World,
)

BETWEEN = 1.0
"""Seconds between two rounds of seeing to what waits, while a watch tells changes."""
Connect = Callable[[KubernetesSettings], Awaitable[Configuration]]


class KubernetesAdapter:
    """One cluster; see `port.Adapter`. What it knows it has read: a new one goes on where it ended."""

    def __init__(
        self,
        cluster: str,
        settings: KubernetesSettings,
        connect: Connect = configuration,
        clock: Clock = time.time,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._connect = connect
        self._clock = clock
        self._client: Client | None = None
        self._hands: Hands | None = None
        self._reader: Reader | None = None
        self._tended = Tended()
        self._next_tend = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """What a Kubernetes cluster can do."""
        return Capabilities(gates=True, watches=True, several_ranks=True)

    async def open(self) -> None:
        """Connect, and check the login and its rights to read."""
        client = Client(await self._connect(self._settings), self._settings.requests)
        try:
            for one in sources(self._settings):
                await client.call(
                    "GET", one.resource, "", one.namespace, query={"limit": "1"}, verb="list"
                )
        except (ForbiddenError, LoginError, NotFoundError) as error:
            await client.close()
            raise SettingsError(str(error)) from error
        except BaseException:
            await client.close()
            raise
        self._client = client
        self._hands = Hands(
            self._cluster,
            client,
            templates={one.name: one for one in self._settings.templates},
            rule=self._settings.gate,
            namespace=self._settings.namespace,
            levels={str(level): keys for level, keys in self._settings.levels().items()},
            clock=self._clock,
        )
        self._reader = Reader(
            client,
            self._settings,
            self._cluster,
            sources(self._settings),
            clock=self._clock,
            handed=self._hands.handed,
        )

    async def close(self) -> None:
        """Let go of connections."""
        client, self._client = self._client, None
        self._hands = self._reader = None
        if client is not None:
            await client.close()

    async def world(self) -> World:
        """Return all that is there; all lists are read to their end, or none counts.

        What was begun and not ended, by this process or one before it, is gone on with first. Beyond
        that nothing is written: a cluster in which nothing was ever launched, gated or stopped is read.
        """
        self._tended = await self._acting().tend()
        mirror = await self._reading().world()
        return World(
            nodes=dict(mirror.nodes),
            running={**self._queued(), **mirror.running},
            revision=revision_of(mirror),
            quotas=mirror.quotas(quota_namespaces(self._settings)),
            templates=tuple(one.told() for one in self._settings.templates),
            notes=self._notes(mirror),
        )

    async def watch(self, revision: str) -> AsyncGenerator[Change]:
        """Yield what changes after ``revision``."""
        async with aclosing(self._reading().watch(revision)) as changes:
            async for mirror, change in changes:
                notes = None if change.notes is None else self._notes(mirror)
                yield replace(change, notes=notes)
                if mirror.loose and (more := await self._see_to(mirror)) is not None:
                    yield more

    def _notes(self, mirror: Mirror) -> tuple[str, ...]:
        cut = filter(None, (one.cuts_off() for one in self._settings.templates))
        return (*mirror.node_notes(), *self._tended.notes, *cut)

    def _queued(self) -> dict[str, Running]:
        return {one.instance_id: one for one in self._tended.queued}

    async def _see_to(self, mirror: Mirror) -> Change | None:
        """See to pods that wait at our gate: a step of a process that died, or a pod made anew.

        What comes of it is watched; what is no pod's is told here.
        """
        acting, loop = self._acting(), asyncio.get_running_loop()
        if acting.launching:
            return None
        await asyncio.sleep(max(0.0, self._next_tend - loop.time()))
        self._next_tend = loop.time() + BETWEEN
        before, queued = self._tended, self._queued()
        try:
            self._tended = await acting.tend()
        except AdapterError:
            return None  # the next look says what is wrong
        if self._tended == before:
            return None
        changed: dict[str, Running | None] = dict.fromkeys(queued)
        changed |= self._queued()
        gone = {key: one for key, one in changed.items() if key not in mirror.running}
        return Change(revision_of(mirror), running=gone, notes=self._notes(mirror))

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing."""
        await self._acting().launch(step)

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away."""
        await self._acting().gate(instance_id, wish)

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance."""
        await self._acting().stop(instance_id, grace)

    def _acting(self) -> Hands:
        if self._hands is None:
            raise UnavailableError(f"{self._cluster}: not open")
        return self._hands

    def _reading(self) -> Reader:
        if self._reader is None:
            raise UnavailableError(f"{self._cluster}: not open")
        return self._reader


def create(cluster: str, options: Mapping[str, Any]) -> KubernetesAdapter:
    """Return the adapter called ``cluster``, not yet open. Raises SettingsError."""
    return KubernetesAdapter(cluster, read_settings(cluster, options))
