"""What engines say of their version, beside their metrics: asked once, and told by the inventory."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heteroscale.words import Role
from heteroscale_agent.config import Template
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.ports import ScrapeTarget
from heteroscale_agent.probes.versions import BETWEEN_S, TRIES
from tests.agent.eyes.rig import HandClock, engine_text, opened
from tests.agent.metrics_server import answer

TEMPLATES = {
    name: Template(command=("x",), role=Role.DECODE, engine=engine, version="declared")
    for name, engine in (("v", "vllm"), ("s", "sglang"), ("l", "llamacpp"))
}


class Engine:
    """Answers by path; counts what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {"/metrics": answer(engine_text(1))}
        self.asked: Counter[str] = Counter()
        self.url = ""

    def tells(self, path: str, body: object) -> None:
        self.pages[path] = answer(json.dumps(body), content_type="application/json")

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                self.asked[path] += 1
                writer.write(self.pages.get(path, answer("no", status="404 Not Found")))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running() -> AsyncIterator[Engine]:
    engine = Engine()
    server = await asyncio.start_server(engine.handle, "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
    try:
        yield engine
    finally:
        server.close()


def versions(eyes: HostEyes) -> dict[str, str]:
    return {one.name: one.engine_version for one in eyes.inventory().templates}


async def until(eyes: HostEyes, clock: HandClock, true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            clock.now += 1.0
            await eyes.sample()


@pytest.mark.parametrize(
    ("template", "path", "body"),
    [
        ("v", "/version", {"version": "0.11.0+cu128"}),
        ("s", "/server_info", {"model_path": "m", "version": "0.5.21"}),
        ("s", "/get_server_info", {"version": "0.4.9.post2"}),
    ],
)
async def test_an_engine_is_asked_once_and_its_word_stands_for_its_template(
    clock: HandClock, tmp_path: Path, template: str, path: str, body: dict[str, str]
) -> None:
    async with running() as engine, opened(clock, tmp_path, templates=TEMPLATES) as eyes:
        engine.tells(path, body)
        kind = TEMPLATES[template].engine
        if kind == "sglang":
            engine.pages["/metrics"] = answer("sglang:num_running_reqs 1\n")
        eyes.set_targets([ScrapeTarget("one", engine.url, kind, template=template)])
        await until(eyes, clock, lambda: versions(eyes)[template] == body["version"])
        told = eyes.inventory()
        await until(eyes, clock, lambda: engine.asked["/metrics"] > BETWEEN_S + 10)
        assert engine.asked[path] == 1
        assert eyes.inventory() is told, "what does not change is not told again"
        assert versions(eyes) == dict.fromkeys(TEMPLATES, "declared") | {template: body["version"]}
        eyes.set_targets([])
        await eyes.sample()
        assert versions(eyes)[template] == body["version"], "an engine that ended changes nothing"


@pytest.mark.parametrize("body", [{"version": 3}, ["0.1"], {"version": "a b"}, {"v": "1"}, None])
async def test_what_says_no_version_is_left_alone_after_a_few_tries(
    clock: HandClock, tmp_path: Path, body: object
) -> None:
    async with running() as engine, opened(clock, tmp_path, templates=TEMPLATES) as eyes:
        if body is None:
            engine.pages["/version"] = answer("no JSON")
        else:
            engine.tells("/version", body)
        eyes.set_targets([ScrapeTarget("one", engine.url, "vllm", template="v")])
        await until(eyes, clock, lambda: engine.asked["/metrics"] > (TRIES + 1) * BETWEEN_S)
        assert engine.asked["/version"] == TRIES
        assert versions(eyes)["v"] == "declared"


async def test_nobody_else_is_asked(clock: HandClock, tmp_path: Path) -> None:
    """Engines of others, kinds that tell none, and one that does not answer its scrapes."""
    async with running() as engine, opened(clock, tmp_path, templates=TEMPLATES) as eyes:
        away = engine.url.replace("/metrics", "/nowhere")
        eyes.set_targets(
            [
                ScrapeTarget("found", engine.url, "vllm"),
                ScrapeTarget("other", engine.url, "llamacpp", template="l"),
                ScrapeTarget("blind", away, "vllm", template="v"),
            ]
        )
        await until(eyes, clock, lambda: engine.asked["/metrics"] > 2 * TRIES)
        assert set(engine.asked) == {"/metrics", "/nowhere"}
