"""Before the first turn: waits for the lease, alive and not ready; then keeps it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from heteroscale.channel import ChannelError
from heteroscale_coordinator.config import CoordinatorSpec
from heteroscale_coordinator.core.events import Changes, RenewLeases
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.adapters import LeasedAdapter
from heteroscale_coordinator.edge.cluster_api import ClusterApi
from heteroscale_coordinator.edge.http import HttpFace
from heteroscale_coordinator.edge.lease import Lease, lease_at
from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.edge.ports import LoopStatus, Outlet
from heteroscale_coordinator.edge.while_held import LeasedApi
from heteroscale_scheduler_adapters.port import Adapter

log = structlog.get_logger("heteroscale.lease")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who does not lead yet: alive, and not ready."""

    lease: Lease

    def status(self) -> LoopStatus:
        """Return why it is not ready."""
        return LoopStatus(time.time(), (f"follows: {self.lease.waits_for}",))


class LeasedOutlet:
    """Lets nothing out once the lease is no longer ours, whatever the loop still does."""

    def __init__(self, inner: Outlet, lease: Lease) -> None:
        self._inner, self._lease = inner, lease

    def dispatch(self, changes: Changes, state: State, epoch: int) -> None:
        """Send, or drop: the next leader decides anew."""
        if self._lease.held():
            self._inner.dispatch(changes, state, epoch)
        elif changes:
            log.error("not sent", why="the lease is not held any more")

    def renew(self, leases: Iterable[RenewLeases], epoch: int) -> None:
        """Send lease renewals of instances."""
        if self._lease.held():
            self._inner.renew(leases, epoch)


def leased(adapter: Adapter, lease: Lease | None) -> Adapter:
    """Return an adapter that acts only while the lease is held; without a lease, the adapter itself."""
    return adapter if lease is None else LeasedAdapter(adapter, lease.held)


def leased_api(api: ClusterApi, lease: Lease | None) -> ClusterApi:
    """Return the API server as who leads may use it; without a lease, as it is."""
    return api if lease is None else LeasedApi(api, lease.held)


def identity() -> str:
    """Return a name of this process that no other bears, one in the same pod neither."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


def new_lease(spec: CoordinatorSpec, api: ClusterApi) -> Lease:
    """Return the lease of the settings, not yet taken."""
    namespace, _, name = spec.kubernetes.lease.partition("/")
    return Lease(
        api, lease_at(namespace, name), identity(), monotonic=time.monotonic, wall=time.time
    )


async def wait_for(lease: Lease, spec: CoordinatorSpec, stop: asyncio.Event) -> bool:
    """Return True once the lease is ours, False if ``stop`` was set before.

    Raises:
        ChannelError: HTTP cannot be served as it should.

    """
    async with AsyncExitStack() as stack:
        http = HttpFace(Waiting(lease), Metrics())
        if spec.http.listen:
            await serve_http(spec, http)
            stack.push_async_callback(http.close)
        log.info("following", lease=spec.kubernetes.lease)
        tasks = [asyncio.create_task(lease.acquire()), asyncio.create_task(stop.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return tasks[0] in done and not stop.is_set()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def leadership(
    lease: Lease, spec: CoordinatorSpec, stop: asyncio.Event
) -> AsyncIterator[bool]:
    """Give whether it leads, and give the lease back in the end, when all else is closed."""
    try:
        yield await wait_for(lease, spec, stop)
    finally:
        await lease.release()


async def serve_http(spec: CoordinatorSpec, http: HttpFace) -> int:
    """Serve HTTP where the settings say, and return the port. ChannelError: it cannot."""
    host, _, number = spec.http.listen.rpartition(":")
    try:
        return await http.start(host.strip("[]"), int(number))
    except OSError as error:
        why = error.strerror or str(error)
        raise ChannelError(f"cannot serve HTTP on {spec.http.listen}: {why}") from error
