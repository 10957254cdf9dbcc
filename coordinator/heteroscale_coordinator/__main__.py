"""Wires the rooms of the coordinator and runs them until it is told to stop.

Its end harms nothing: agents keep engines as they are, withdrawn ones come back when their lease
ends, and the next coordinator on the same data directory goes on from the last commit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from heteroscale import logs
from heteroscale.channel import ChannelError, is_loopback
from heteroscale.documents import DocumentError
from heteroscale_coordinator import leading
from heteroscale_coordinator.clock import SteadyClock
from heteroscale_coordinator.config import CoordinatorSpec, load
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals
from heteroscale_coordinator.edge import memory
from heteroscale_coordinator.edge.adapters import Driver, Drivers
from heteroscale_coordinator.edge.adapters.catalogue import create_all
from heteroscale_coordinator.edge.adapters.metrics import ClusterCollector
from heteroscale_coordinator.edge.admission import Admission
from heteroscale_coordinator.edge.cluster_api import ApiError, ClusterApi
from heteroscale_coordinator.edge.crd.keeper import Keeper
from heteroscale_coordinator.edge.dispatch import Dispatcher
from heteroscale_coordinator.edge.http import HttpFace
from heteroscale_coordinator.edge.keda import KedaFace, KedaServer, Polls
from heteroscale_coordinator.edge.lease import Lease, LeaseLostError
from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.edge.operator import OperatorFace
from heteroscale_coordinator.edge.others import tell_others
from heteroscale_coordinator.edge.prometheus.live.room import Watchers
from heteroscale_coordinator.edge.prometheus.live.told import WatchCollector
from heteroscale_coordinator.edge.recorder import record_decisions
from heteroscale_coordinator.edge.routers import Routers
from heteroscale_coordinator.edge.server import Server
from heteroscale_coordinator.edge.service import AgentService
from heteroscale_coordinator.edge.sessions import Sessions
from heteroscale_coordinator.edge.store import StoreError
from heteroscale_coordinator.edge.store.decisions import FILE_NAME, DecisionLog
from heteroscale_coordinator.edge.store.port import Snapshot, Store
from heteroscale_coordinator.edge.store.sqlite import open_sqlite
from heteroscale_coordinator.edge.trust import Gatekeeper, listen
from heteroscale_coordinator.loop import Loop
from heteroscale_coordinator.zones import ZonedStep
from heteroscale_scheduler_adapters.port import Adapter, SettingsError

log = structlog.get_logger("heteroscale.coordinator")

FAILED, USAGE = 1, 2
GRACE_S = 2.0
MAIN = "main"
"""What the Prometheus of the command line is called."""


async def serve(spec: CoordinatorSpec, stop: asyncio.Event) -> None:
    """Run the coordinator until ``stop`` is set.

    Raises:
        ChannelError: it cannot listen as it should.
        SettingsError: an adapter cannot be meant so.
        StoreError: the data directory cannot be used, or another coordinator leads.
        ApiError: there is no login to the Kubernetes cluster that it is to use.
        LeaseLostError: another coordinator may lead by now.

    """
    adapters = create_all(spec.adapters)
    async with AsyncExitStack() as stack:
        api, lease = await _cluster(spec, stack)
        if lease is not None and not await stack.enter_async_context(
            leading.leadership(lease, spec, stop)
        ):
            return
        store = open_sqlite(spec.data_dir)
        stack.callback(store.close)
        decisions = DecisionLog(spec.data_dir / FILE_NAME)
        stack.callback(decisions.close)
        snapshot, metrics = store.load(), Metrics()
        loop = _loop(spec, store, snapshot, metrics)
        stack.callback(loop.close)
        metrics.watch(loop, decisions)
        routers = Routers()
        stack.push_async_callback(routers.aclose)
        sessions = Sessions(
            takeover_after=spec.takeover_after, forget_after=spec.rules.forget_after
        )
        drivers = _drivers(spec, adapters, lease, loop)
        metrics.registry.register(ClusterCollector(drivers))
        dispatcher = Dispatcher(sessions, routers, loop.now, drivers)
        dispatcher.restore(loop.state)
        loop.outlet = leading.LeasedOutlet(dispatcher, lease) if lease else dispatcher
        agents = _agents(spec, loop, sessions, dispatcher)
        gatekeeper = Gatekeeper(mutual=spec.tls.files().mutual)
        watchers = Watchers(loop, spec.prometheus, names=drivers.names)
        metrics.registry.register(WatchCollector(watchers.told, loop.now))
        operators = OperatorFace(loop, decisions, watched=watchers.told)
        server = Server(agents, operators, gatekeeper)
        await loop.start()
        await _listen(spec, server, HttpFace(loop, metrics), stack)
        if spec.keda.listen:
            polls = Polls(loop, metrics.registry)
            await _listen_keda(spec, KedaFace(loop, decisions, gatekeeper, polls), stack)
        work = {
            "turns": loop.run(),
            "decisions": record_decisions(loop, decisions),
            "others": tell_others(loop),
            "streams": agents.watch(),
            "clusters": drivers.run(),
            "prometheus": watchers.run(),
            "health": server.tell_health(loop),
        }
        if lease is not None:
            work["lease"] = lease.keep()
        if api is not None and spec.kubernetes.objects:
            reporter, namespace = socket.gethostname(), spec.kubernetes.namespace
            told = leading.leased_api(api, lease)
            work["objects"] = Keeper(told, loop, decisions, reporter, namespace).run()
        await _run(stop, loop, work, server)


def _drivers(
    spec: CoordinatorSpec, adapters: Sequence[tuple[str, Adapter]], lease: Lease | None, loop: Loop
) -> Drivers:
    """Return one driver for each cluster, which acts only while this coordinator leads."""
    paces = [one.pace.pace() for one in spec.adapters]
    return Drivers(
        Driver(name, leading.leased(adapter, lease), loop, pace)
        for (name, adapter), pace in zip(adapters, paces, strict=True)
    )


def _loop(spec: CoordinatorSpec, store: Store, snapshot: Snapshot, metrics: Metrics) -> Loop:
    """Return the one writer over what is stored, not yet started."""
    state = State(
        rules=spec.rules,
        services=snapshot.services,
        instances=snapshot.instances,
        commands=snapshot.commands,
        cordons=snapshot.cordons,
    )
    return Loop(
        store=store,
        snapshot=snapshot,
        state=state,
        step=ZonedStep(),
        renewals=renewals,
        clock=SteadyClock(snapshot.last_now),
        observer=metrics,
        after_turn=memory.Freezer(),
    )


async def _cluster(
    spec: CoordinatorSpec, stack: AsyncExitStack
) -> tuple[ClusterApi | None, Lease | None]:
    """Return the cluster's API server and the lease, where they are asked for."""
    wanted = spec.kubernetes
    if not (wanted.lease or wanted.objects):
        return None, None
    try:
        from heteroscale_coordinator import cluster  # noqa: PLC0415 - its client is of an extra
    except ImportError as error:
        raise ChannelError(
            f"kubernetes: needs {error.name}: install heteroscale[coordinator,kubernetes]"
        ) from error
    api = await cluster.connect(wanted)
    stack.push_async_callback(api.close)
    if not wanted.lease:
        return api, None
    # By connections and a rate of its own: much to tell of objects must never delay a renewal.
    leases = await cluster.connect(wanted)
    stack.push_async_callback(leases.close)
    return api, leading.new_lease(spec, leases)


def _agents(
    spec: CoordinatorSpec, loop: Loop, sessions: Sessions, dispatcher: Dispatcher
) -> AgentService:
    admission = spec.admission
    return AgentService(
        loop=loop,
        sessions=sessions,
        dispatcher=dispatcher,
        admission=Admission(admission.hellos_per_second, admission.burst, loop.now),
        gatekeeper=Gatekeeper(mutual=spec.tls.files().mutual),
        cluster_id=spec.cluster_id,
        coordinator_id=f"{socket.gethostname()}:{os.getpid()}",
        limits=spec.limits,
    )


async def _listen(
    spec: CoordinatorSpec, server: Server, http: HttpFace, stack: AsyncExitStack
) -> None:
    tls = spec.tls.files()
    port = listen(server.grpc, spec.listen, tls, insecure=spec.insecure)
    http_port = 0
    if spec.http.listen:
        http_port = await leading.serve_http(spec, http)
        stack.push_async_callback(http.close)
    await server.grpc.start()
    if not tls.mutual and not is_loopback(spec.listen):
        log.warning("callers_not_told_apart", why="no clientCa: anyone may be agent or operator")
    log.info(
        "serving",
        listen=spec.listen,
        port=port,
        http=spec.http.listen or None,
        http_port=http_port or None,
        cluster=spec.cluster_id,
        data_dir=str(spec.data_dir),
        tls="mutual" if tls.mutual else "server" if tls.enabled else "none",
    )


async def _listen_keda(spec: CoordinatorSpec, face: KedaFace, stack: AsyncExitStack) -> None:
    server = KedaServer(face)
    tls = spec.tls.files()
    port = listen(server.grpc, spec.keda.listen, tls, insecure=spec.keda.insecure)
    await server.start()
    stack.push_async_callback(server.stop, GRACE_S)
    log.info("serving_keda", listen=spec.keda.listen, port=port)


async def _run(
    stop: asyncio.Event, loop: Loop, work: dict[str, Coroutine[Any, Any, None]], server: Server
) -> None:
    """Run until ``stop``, or until one of the tasks ends, which none should."""
    tasks = [asyncio.create_task(job, name=name) for name, job in work.items()]
    turns = tasks[0]
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
            raise RuntimeError(f"{task.get_name()} ended by itself")
        log.info("stopping")
    finally:
        stopped.cancel()
        await server.stop(GRACE_S)
        loop.stop()
        await asyncio.wait({turns})
        loop.close()
        for task in tasks:
            if task.get_name() != "decisions":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("stopped")


async def _until_signalled(spec: CoordinatorSpec) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(spec, stop)


def parser() -> argparse.ArgumentParser:
    """Return the command line of the coordinator."""
    result = argparse.ArgumentParser(
        prog="heteroscale coordinator",
        description="Decides how many prefill and decode instances each service has, and where. "
        "Agents and operators connect to it; its death stops nothing.",
        epilog="All of it can be written into a YAML document of kind Coordinator; the command "
        "line overrides the document.",
    )
    add = result.add_argument
    add("verb", nargs="?", choices=("run", "check"), default="run")
    add("-c", "--config", type=Path, help="the Coordinator document")
    add("--listen", metavar="HOST:PORT", help="gRPC, for agents and operators")
    add("--http", metavar="HOST:PORT", help="metrics and health; '' for none")
    add("--http-insecure", action="store_true", help="serve them beyond loopback, knowingly")
    add("--keda", metavar="HOST:PORT", help="KEDA's external-scaler API; '' for none")
    add("--keda-insecure", action="store_true", help="serve it beyond loopback plain, knowingly")
    add(
        "--prometheus",
        metavar="URL",
        help="for services whose signals come from one that scrapes their engines already",
    )
    add("--cluster-id", help="agents of another cluster are refused")
    add("--data-dir", type=Path, help="state and decisions; one coordinator each")
    add("--insecure", action="store_true", help="listen without TLS, knowingly")
    add("--tls-cert", type=Path, metavar="PEM", help="certificate of this server")
    add("--tls-key", type=Path, metavar="PEM", help="its key")
    add("--tls-client-ca", type=Path, metavar="PEM", help="CA of agents and operators")
    add("--log-level", choices=("debug", "info", "warning", "error"))
    add("--log-format", choices=("auto", "json", "console"))
    return result


def settings_of(arguments: argparse.Namespace) -> CoordinatorSpec:
    """Read the document, lay the command line's own words over it, and check the whole.

    Raises:
        DocumentError: the document is wrong.
        ChannelError: a word of the command line is wrong, or it would listen too openly.
        OSError: a file cannot be read.

    """
    spec = load(arguments.config) if arguments.config else CoordinatorSpec()
    given = {
        ("listen",): arguments.listen,
        ("cluster_id",): arguments.cluster_id,
        ("data_dir",): arguments.data_dir,
        ("insecure",): arguments.insecure or None,
        ("http", "listen"): arguments.http,
        ("http", "insecure"): arguments.http_insecure or None,
        ("keda", "listen"): arguments.keda,
        ("keda", "insecure"): arguments.keda_insecure or None,
        ("tls", "certificate"): arguments.tls_cert,
        ("tls", "key"): arguments.tls_key,
        ("tls", "client_ca"): arguments.tls_client_ca,
        ("log", "level"): arguments.log_level,
        ("log", "format"): arguments.log_format,
    }
    data = spec.model_dump()
    if arguments.prometheus is not None:
        data["prometheus"].setdefault(MAIN, {})["url"] = arguments.prometheus
    for (*above, name), value in given.items():
        if value is not None:
            (data[above[0]] if above else data)[name] = value
    try:
        spec = CoordinatorSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ChannelError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
    spec.check_trust()
    return spec


def run(argv: list[str]) -> int:
    """Run ``heteroscale coordinator …`` and return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        spec = settings_of(arguments)
        if arguments.verb == "check":
            create_all(spec.adapters)
            print("valid")
            return 0
        logs.configure(spec.log.level, spec.log.format)
        gc.set_threshold(*memory.THRESHOLDS)
        asyncio.run(_until_signalled(spec))
    except (
        DocumentError,
        ChannelError,
        SettingsError,
        StoreError,
        ApiError,
        LeaseLostError,
        OSError,
    ) as error:
        print(f"heteroscale coordinator: {error}", file=sys.stderr)
        return USAGE if isinstance(error, DocumentError | ChannelError | SettingsError) else FAILED
    return 0


def main() -> None:
    """Run as the script ``heteroscale-coordinator``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
