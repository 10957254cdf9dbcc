"""The doctor's word on engines and routers: do they answer, and as what."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heteroscale_agent.doctor import checkup, engines, routers
from heteroscale_agent.doctor.finding import Case, Finding, Level
from tests.agent.doctor_cases import case, free_port, only, spec
from tests.agent.metrics_server import answer, hangs, metrics_server

FIXTURES = Path(__file__).parent / "fixtures"
VLLM = (FIXTURES / "vllm-0.32-loaded.txt").read_text()
SGLANG = (FIXTURES / "sglang-0.5.23-loaded.txt").read_text()
ROUTER = (FIXTURES / "sglang-router-0.3.2-loaded.txt").read_text()


async def engine_found(endpoint: str, kind: str = "vllm") -> list[Finding]:
    body = {"instanceId": "e", "service": "s", "role": "decode", "endpoint": endpoint}
    one = Case(spec(engines=[{**body, "engine": kind}]), deadline=2.0)
    found = await asyncio.to_thread(checkup.run, list(engines.looks(one)), one)
    return [finding for _, finding in found]


async def test_an_engine_that_is_what_it_is_said_to_be() -> None:
    async with metrics_server() as server:
        server.says(VLLM)
        (found,) = await engine_found(server.url.removesuffix("/metrics"))
        assert found.level in {Level.OK, Level.NOTE}
        assert found.saw.startswith("vllm")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(SGLANG), "shows metrics of sglang"),
        (answer("process_cpu_seconds_total 1\n"), "no vllm metric"),
        (answer("<html>", content_type="text/html"), "content type 'text/html'"),
        (answer("", status="404 Not Found"), "HTTP status 404"),
        (hangs, "no whole answer"),
    ],
)
async def test_an_engine_that_is_not(reply: Any, says: str) -> None:
    async with metrics_server() as server:
        server.reply = reply
        found = await engine_found(server.url.removesuffix("/metrics"))
        assert (found[0].level, says in found[0].saw) == (Level.PROBLEM, True), found


async def test_an_engine_that_is_not_there() -> None:
    (found,) = await engine_found(f"http://127.0.0.1:{free_port()}")
    assert found.level is Level.PROBLEM


async def test_a_model_that_the_engine_does_not_serve_is_noticed() -> None:
    async with metrics_server() as server:
        server.says(VLLM)
        body = {"instanceId": "e", "service": "s", "role": "decode", "modelName": "no-such"}
        body["endpoint"] = server.url.removesuffix("/metrics")
        one = Case(spec(engines=[body]), deadline=5.0)
        found = await asyncio.to_thread(checkup.run, list(engines.looks(one)), one)
    assert (found[0][1].level, found[0][1].todo) == (Level.NOTE, "mend `modelName`")


def test_what_is_experimental_is_said() -> None:
    body = {"role": "decode", "command": ["sh"], "engine": "tgi"}
    assert "template a" in only(engines.unproven(case(templates={"a": body}))).saw
    assert list(engines.unproven(case())) == []


async def test_a_router_of_the_document_is_read() -> None:
    async with metrics_server() as server:
        listed = {"name": "r", "service": "s", "kind": "sglang-router"}
        listed["url"] = server.url.removesuffix("/metrics")
        one = Case(spec(routers=[listed]), deadline=5.0)
        server.says("nothing_of_a_router 1\n")
        assert only(await asyncio.to_thread(lambda: list(routers.watched(one)))).level is (
            Level.PROBLEM
        )
        server.says(ROUTER)
        found = only(await asyncio.to_thread(lambda: list(routers.watched(one))))
        assert found.level in {Level.OK, Level.NOTE}
        assert found.saw.startswith("sglang-router")
