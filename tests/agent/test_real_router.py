"""The gate against the real sglang-router, with tiny engines as its workers."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from heteroscale.words import Role, ScrapeQuality
from heteroscale_agent.config import Router
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.sglang_router import SglangRouterGate
from heteroscale_agent.model import Gate
from heteroscale_agent.probes.watch import RouterWatch

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None, reason="needs sglang-router"
    ),
]
ENGINE = str(Path(__file__).with_name("tiny_engine.py"))
DEADLINE = 40.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Rig:
    """A router, and whatever workers a test starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.metrics = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.router: subprocess.Popen[bytes] | None = None
        self.gate = SglangRouterGate(asyncio.get_running_loop().time)
        self.http = httpx.AsyncClient(trust_env=False, timeout=5)

    async def start_router(self) -> None:
        command = [
            *(sys.executable, "-m", "sglang_router.launch_router", "--pd-disaggregation"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--policy", "round_robin"),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(self.metrics)),
        ]
        self.router = self._start(command)
        await self.until(self._listening)

    async def _listening(self) -> bool:
        try:
            return (await self.http.get(self.url + "/workers")).is_success
        except httpx.TransportError:
            return False

    async def worker(self, role: str, port: int) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as bell:
            call = {"TINY_CALL": f"127.0.0.1:{bell.getsockname()[1]}"}
            self._start([sys.executable, "-S", ENGINE, str(port), role], call)
            bell.settimeout(DEADLINE)
            connection, _ = await asyncio.to_thread(bell.accept)
            connection.close()

    def _start(
        self, command: list[str], env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self.processes.append(process)
        return process

    async def until(self, condition: Callable[[], object]) -> None:
        """Ask again and again until true; the router tells nobody when it is done."""
        async with asyncio.timeout(DEADLINE):
            while True:
                found = condition()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.05)

    async def agreed(self, member: Member, *, wanted_in: bool) -> None:
        """Reconcile until the router agrees."""

        async def once() -> bool:
            view = await self.gate.reconcile(member, wanted_in=wanted_in)
            return view.all_in if wanted_in else view.all_out

        await self.until(once)

    async def listed(self) -> dict[str, str]:
        answer = (await self.http.get(self.url + "/workers")).json()
        return {worker["url"]: worker["worker_type"] for worker in answer["workers"]}

    def member(self, role: str, port: int) -> Member:
        gate = Gate("sglang-router", (self.url,))
        return Member(f"i{port}", "chat", Role(role), f"http://127.0.0.1:{port}", 9001, gate)

    async def close(self) -> None:
        await self.gate.close()
        await self.http.aclose()
        for process in self.processes:
            process.kill()
            process.wait(DEADLINE)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    try:
        await made.start_router()
        yield made
    finally:
        await made.close()


async def test_workers_come_and_go_and_a_restarted_router_heals(rig: Rig) -> None:
    prefill, decode = free_ports(2)
    await rig.worker("prefill", prefill)
    await rig.worker("decode", decode)
    members = [rig.member("prefill", prefill), rig.member("decode", decode)]
    for member in members:
        await rig.agreed(member, wanted_in=True)
    both = {members[0].endpoint: "prefill", members[1].endpoint: "decode"}
    assert await rig.listed() == both
    await rig.agreed(members[1], wanted_in=False)
    assert await rig.listed() == {members[0].endpoint: "prefill"}
    await rig.agreed(members[1], wanted_in=True)

    assert rig.router is not None
    rig.router.kill()
    rig.router.wait(DEADLINE)
    view = await rig.gate.reconcile(members[0], wanted_in=False)
    assert view.places == {rig.url: None}
    await rig.start_router()
    assert await rig.listed() == {}
    for member in members:
        await rig.agreed(member, wanted_in=True)
    assert await rig.listed() == both


async def test_an_addition_the_router_is_still_trying_is_never_taken_for_out(rig: Rig) -> None:
    (port,) = free_ports(1)
    member = rig.member("decode", port)
    # Nobody answers there yet: the router accepts the addition, and tries again and again.
    await rig.gate.reconcile(member, wanted_in=True)
    seen: list[View] = [await rig.gate.reconcile(member, wanted_in=False) for _ in range(3)]
    assert not any(view.all_out for view in seen)
    await rig.worker("decode", port)

    async def came() -> bool:
        return member.endpoint in await rig.listed()

    await rig.until(came)
    await rig.agreed(member, wanted_in=False)
    assert await rig.listed() == {}


async def test_its_metrics_page_tells_whom_it_turned_away(rig: Rig) -> None:
    router = Router(
        name="front",
        service="chat",
        url=f"http://127.0.0.1:{rig.metrics}",
        kind="sglang-router",
    )
    watch = RouterWatch(router, "10.0.0.9", asyncio.get_running_loop().time, DEADLINE)

    async def rejected() -> float | None:
        await watch.start()
        return watch.report(0.0, 0.0).requests_rejected

    async def refused() -> None:
        # No worker is there yet: 503, with an error code.
        asked = {"model": "tiny", "prompt": "a", "max_tokens": 1}
        assert (await rig.http.post(rig.url + "/v1/completions", json=asked)).status_code == 503

    async def known() -> bool:
        return await rejected() is not None

    async def more() -> bool:
        return (await rejected() or 0) >= 2

    await refused()
    await rig.until(known)
    await refused()
    await refused()
    await rig.until(more)
    seen = watch.report(0.0, 0.0)
    await watch.close()
    assert (seen.url, seen.quality) == (f"http://10.0.0.9:{rig.metrics}", ScrapeQuality.OK)
    assert seen.time_to_first_token is None
