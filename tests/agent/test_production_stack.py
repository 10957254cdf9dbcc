"""The gate of vLLM production-stack's router: a file is a wish, only what the router tells counts.

With HETEROSCALE_PRODUCTION_STACK, the command that starts a real router (`python -m vllm_router.app`,
of a checkout: it is on no package index), the last test runs against it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import Role
from heteroscale_agent.hands.gates.port import Member
from heteroscale_agent.hands.gates.production_stack import (
    NO_MODEL,
    NOBODY,
    PATIENCE,
    ProductionStackGate,
)
from heteroscale_agent.hands.http import client
from heteroscale_agent.model import Gate
from tests.agent.body_twins import Clock
from tests.agent.proxies import Engine, Proxy, Traffic
from tests.agent.small_router import hangs, says
from tests.agent.small_stack import SmallStack

ONE, TWO = "http://10.0.0.7:20001", "http://10.0.0.8:20001"
REAL = os.environ.get("HETEROSCALE_PRODUCTION_STACK", "")


@dataclass
class Rig:
    gate: ProductionStackGate
    stack: SmallStack
    clock: Clock
    path: Path

    def member(self, endpoint: str = ONE, role: str = "aggregated", **options: str) -> Member:
        told = {"path": "router.json", "model": "tiny", **options}
        return Member(
            "i1",
            "chat",
            Role(role),
            endpoint,
            9001,
            Gate("production-stack", (self.stack.url,), told),
        )

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.path.read_text())
        return config

    async def seen(self, *, wanted_in: bool, member: Member | None = None) -> bool | None:
        view = await self.gate.reconcile(member or self.member(), wanted_in=wanted_in)
        (seen,) = view.places.values()
        return seen


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    path, clock = tmp_path / "router.json", Clock()
    stack = SmallStack(path)
    await stack.start()
    yield Rig(ProductionStackGate(clock, tmp_path, client()), stack, clock, path)
    await stack.stop()


async def test_it_is_in_only_when_the_router_says_so(rig: Rig) -> None:
    assert rig.gate.complaint(rig.member()) == ""
    assert await rig.seen(wanted_in=True) is False
    assert rig.config == {
        "service_discovery": "static",
        "routing_logic": "roundrobin",
        "static_backends": ONE,
        "static_models": "tiny",
    }
    assert await rig.seen(wanted_in=True) is False
    rig.stack.read()
    assert await rig.seen(wanted_in=True) is True
    assert rig.stack.discovered == [ONE]


async def test_it_is_out_as_soon_as_a_router_that_had_it_says_so(rig: Rig) -> None:
    await rig.seen(wanted_in=True)
    rig.stack.read()
    assert await rig.seen(wanted_in=True) is True
    assert await rig.seen(wanted_in=False) is True
    assert rig.config["static_backends"] == NOBODY
    assert rig.config["static_models"] == NO_MODEL
    assert await rig.seen(wanted_in=False) is True
    rig.stack.read()
    assert await rig.seen(wanted_in=False) is False
    assert ONE not in rig.stack.discovered
    await rig.seen(wanted_in=True)
    assert NOBODY not in rig.config["static_backends"]


async def test_what_a_router_may_have_read_and_not_told_is_not_out(rig: Rig) -> None:
    await rig.seen(wanted_in=True)
    rig.stack.begin()
    assert ONE in rig.stack.discovered
    assert await rig.seen(wanted_in=False) is None
    rig.clock.now += PATIENCE - 1
    assert await rig.seen(wanted_in=False) is None
    rig.stack.read()
    rig.clock.now += 2
    assert await rig.seen(wanted_in=False) is False


async def test_an_agent_that_has_just_started_waits_while_the_file_is_young(rig: Rig) -> None:
    await rig.seen(wanted_in=True)
    await rig.seen(wanted_in=False)
    wall = Clock(rig.path.stat().st_mtime + 10)
    again = ProductionStackGate(rig.clock, rig.path.parent, client(), wall)
    rig.gate = again
    assert await rig.seen(wanted_in=False) is None
    rig.clock.now += PATIENCE - 10
    assert await rig.seen(wanted_in=False) is False


async def test_a_router_that_still_tells_an_older_file_is_not_in_for_good(rig: Rig) -> None:
    await rig.seen(wanted_in=True)
    rig.stack.read()
    await rig.seen(wanted_in=False)
    assert await rig.seen(wanted_in=True) is None
    assert await rig.seen(wanted_in=True) is True


async def test_entries_and_keys_of_others_stay(rig: Rig) -> None:
    others = {
        "service_discovery": "static",
        "routing_logic": "session",
        "session_key": "x-user",
        "static_backends": "http://a:1,http://b:1",
        "static_models": "m1,m2",
        "static_aliases": "gpt:m1",
    }
    rig.path.write_text(json.dumps(others))
    await rig.seen(wanted_in=True)
    assert rig.config == {
        **others,
        "static_backends": f"http://a:1,http://b:1,{ONE}",
        "static_models": "m1,m2,tiny",
    }
    await rig.seen(wanted_in=True, member=rig.member(TWO, "prefill"))
    assert rig.config["static_model_labels"] == "default,default,default,prefill"
    rig.stack.read()
    await rig.seen(wanted_in=False)
    await rig.seen(wanted_in=False, member=rig.member(TWO, "prefill"))
    assert rig.config["static_backends"] == "http://a:1,http://b:1"
    rig.stack.read()


async def test_roles_become_labels_and_a_role_that_changed_is_told_anew(rig: Rig) -> None:
    prefill, decode = rig.member(ONE, "prefill"), rig.member(ONE, "decode")
    options = {"routing_logic": "disaggregated_prefill"}
    await rig.seen(wanted_in=True, member=rig.member(ONE, "prefill", **options))
    assert rig.config["prefill_model_labels"] == "prefill"
    assert rig.config["routing_logic"] == "disaggregated_prefill"
    rig.stack.read()
    assert await rig.seen(wanted_in=True, member=prefill) is True
    assert await rig.seen(wanted_in=True, member=decode) is None
    assert rig.config["static_model_labels"] == "decode"
    rig.stack.read()
    assert await rig.seen(wanted_in=True, member=decode) is True


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"service_discovery": "k8s"}',
        '{"service_discovery": "static", "static_backends": "http://a:1", "static_models": "a,b"}',
        '{"service_discovery": "static", "static_backends": 5}',
    ],
)
async def test_a_file_that_it_does_not_understand_is_left_as_it_is(rig: Rig, text: str) -> None:
    rig.path.write_text(text)
    for wanted_in in (True, False):
        view = await rig.gate.reconcile(rig.member(), wanted_in=wanted_in)
        assert view.places == {rig.stack.url: None}
        assert str(rig.path) in view.message
    assert rig.path.read_text() == text


@pytest.mark.parametrize("fault", [hangs, says("{}", 503), says("<html>"), says("{}"), None])
async def test_a_router_that_tells_nothing_is_unknown(rig: Rig, fault: Any) -> None:
    rig.stack.fault, rig.stack.told = fault, None
    for wanted_in in (True, False):
        view = await rig.gate.reconcile(rig.member(), wanted_in=wanted_in)
        assert view.places == {rig.stack.url: None}
        assert view.message


def test_settings_that_cannot_be(rig: Rig) -> None:
    for wrong, said in (
        ({"path": "/etc/x"}, "below the agent's gate folder"),
        ({"model": ""}, "needs `model`"),
        ({"model": "a,b"}, "needs `model`"),
    ):
        assert said in rig.gate.complaint(rig.member(**wrong))
    assert "ffn" in rig.gate.complaint(rig.member(role="ffn"))
    none = Member("i1", "chat", Role.DECODE, ONE, None, Gate("x", (), {"path": "a", "model": "m"}))
    assert "1 to 16 routers" in rig.gate.complaint(none)


# ---- the real one ----


@pytest.mark.process
@pytest.mark.skipif(not REAL, reason="needs HETEROSCALE_PRODUCTION_STACK, a router's command")
async def test_the_real_router_takes_instances_in_and_lets_them_go(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    gate = ProductionStackGate(loop.time, tmp_path, client())
    proxy, engines = Proxy(tmp_path), [Engine("/v1/completions"), Engine("/v1/completions")]
    for engine in engines:
        await engine.start()
    options = {"path": "router.json", "model": "tiny"}
    kind = Gate("production-stack", (proxy.url.rstrip("/"),), options)
    first, second = (
        Member(f"i{n}", "chat", Role.AGGREGATED, engine.endpoint, None, kind)
        for n, engine in enumerate(engines)
    )
    # A first file, so that it can start: as this gate leaves it when nobody is in.
    await gate.reconcile(first, wanted_in=False)
    listen = ("--host", "127.0.0.1", "--port", str(proxy.port))
    await proxy.start(
        *shlex.split(REAL), *listen, "--dynamic-config-json", str(tmp_path / "router.json")
    )
    traffic = Traffic(f"{proxy.url}v1/completions", {"model": "tiny", "prompt": "x"})

    async def agreed(member: Member, *, wanted_in: bool) -> None:
        async with asyncio.timeout(60):
            while True:
                view = await gate.reconcile(member, wanted_in=wanted_in)
                if view.all_in if wanted_in else view.all_out:
                    return
                await asyncio.sleep(0.25)

    try:
        await agreed(first, wanted_in=True)
        async with traffic.flowing():
            await agreed(second, wanted_in=True)
            assert set(await traffic.more(40)) == {str(e.port) for e in engines}
            await agreed(first, wanted_in=False)
            await traffic.settled()
            assert set(await traffic.more(40)) == {str(engines[1].port)}
        assert traffic.failures == []
    finally:
        proxy.stop()
        for engine in engines:
            await engine.stop()
        await gate.close()
