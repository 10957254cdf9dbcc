"""The engine as a process: start-up time, real signals, and an end as unkind as the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

from aiohttp import web

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.exposition import Exposition
from heteroscale_workbench.engine_sim.faults import Faults, ProcessFault
from heteroscale_workbench.engine_sim.kv import LINE_LIMIT
from heteroscale_workbench.engine_sim.server import EngineServer
from heteroscale_workbench.engine_sim.settings import Mode, Settings
from heteroscale_workbench.seen import SeenWriter, note_start

GPU_STATE_INTERVAL = 0.5
BACKLOG = 1024


async def serve(settings: Settings, faults: Faults) -> int:
    """Run an engine until a signal ends it, and return the exit status.

    Raises:
        OSError: a port is taken; said at once, not after the start-up time.

    """
    stop = _signals(ignore=faults.process is ProcessFault.IGNORE_TERM)
    if settings.seen_dir is not None:
        note_start(settings.seen_dir)
    with contextlib.ExitStack() as stack:
        # Bound but not listening: connections are refused, as while a real engine loads its weights.
        port = stack.enter_context(_bind(settings.host, settings.port))
        rooms = None
        if settings.mode is Mode.PREFILL or settings.role_switch:
            rooms = stack.enter_context(_bind(settings.host, settings.bootstrap_port))
        if await _told_to_stop(stop, _startup(settings, faults)):
            return 0
        await _serve(settings, faults, stop, port, rooms)
    return 0


async def _serve(
    settings: Settings,
    faults: Faults,
    stop: asyncio.Event,
    port: socket.socket,
    rooms: socket.socket | None,
) -> None:
    engine = Engine(settings, asyncio.get_running_loop().time)
    seen = (
        SeenWriter(settings.seen_dir, settings.mode, settings.port) if settings.seen_dir else None
    )
    server = EngineServer(engine, Exposition(engine), faults, seen)
    runner = web.AppRunner(
        server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    background = [asyncio.create_task(engine.run())]
    if settings.gpu_state is not None:
        background.append(asyncio.create_task(_write_gpu_state(engine)))
    if rooms is not None:
        await asyncio.start_server(engine.rooms.serve, sock=rooms, limit=LINE_LIMIT)
    await web.SockSite(runner, port, backlog=BACKLOG).start()
    sys.stdout.write(f"engine-sim {settings.mode} ready on {settings.host}:{settings.port}\n")
    sys.stdout.flush()
    died = asyncio.create_task(stop.wait())
    await asyncio.wait({died, background[0]}, return_when=asyncio.FIRST_COMPLETED)
    if background[0].done():
        background[0].result()  # a bug in the loop: raise it rather than serve nobody for ever
    server.draining = True
    if not await _drained(server, settings.shutdown_timeout):
        _cut_all(engine, runner)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await runner.cleanup()
    if seen is not None:
        seen.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    result = socket.socket(family, socket.SOCK_STREAM)
    try:
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        result.bind((host, port))
    except OSError as error:
        result.close()
        raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
    result.setblocking(False)
    return result


def _signals(*, ignore: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        deaf = ignore and number is signal.SIGTERM
        loop.add_signal_handler(number, (lambda: None) if deaf else stop.set)
    return stop


def _startup(settings: Settings, faults: Faults) -> float | None:
    return None if faults.process is ProcessFault.NEVER_READY else settings.startup


async def _told_to_stop(stop: asyncio.Event, within: float | None) -> bool:
    try:
        async with asyncio.timeout(within):
            return await stop.wait()
    except TimeoutError:
        return False


async def _drained(server: EngineServer, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await server.quiet.wait()
    return server.quiet.is_set()


def _cut_all(engine: Engine, runner: web.AppRunner) -> None:
    """Cut every connection in the middle of whatever it was saying."""
    server = runner.server
    for connection in list(server.connections) if server is not None else []:
        if connection.transport is not None:
            connection.transport.abort()
    engine.cut()


async def _write_gpu_state(engine: Engine) -> None:
    """Keep ``gpu_state`` current: what share of the last moment this engine's GPU was busy."""
    path = engine.settings.gpu_state
    assert path is not None  # noqa: S101 - only started with a path
    clock = asyncio.get_running_loop().time
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    at, busy = clock(), engine.gpu.busy_seconds()
    while True:
        await asyncio.sleep(GPU_STATE_INTERVAL)
        now, total = clock(), engine.gpu.busy_seconds()
        state = {
            "pid": os.getpid(),
            "busy": round(min(1.0, max(0.0, (total - busy) / (now - at))), 4),
            "memory": round(engine.kv_usage, 4),
            "port": engine.settings.port,
        }
        at, busy = now, total
        part.write_text(json.dumps(state), "utf-8")
        part.replace(path)
