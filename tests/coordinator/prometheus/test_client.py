"""The client: deadlines, limits, logins and refusals, against a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.client import (
    MAX_POINTS,
    PrometheusClient,
    spans,
)
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec

EMPTY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'


def client(
    answer: Callable[[httpx.Request], Any], environment: dict[str, str] | None = None, **more: Any
) -> PrometheusClient:
    """Return a client of a server that answers so."""
    spec = PrometheusSpec.model_validate({"url": "http://prometheus:9090", **more})
    return PrometheusClient(spec, environment or {}, httpx.MockTransport(answer))


async def asked(one: PrometheusClient, query: str = "up", points: int = 10) -> None:
    async with one:
        await one.range(query, 0.0, float(points - 1), 1.0)


async def refused(one: PrometheusClient) -> str:
    with pytest.raises(PrometheusError) as error:
        await asked(one)
    return str(error.value)


async def test_what_is_asked_for() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=EMPTY)

    await asked(client(answer, tenant="team-a"))
    assert seen[0].url.path == "/api/v1/query_range"
    assert seen[0].url.params["partial_response"] == "false"
    assert seen[0].headers["X-Scope-OrgID"] == "team-a"
    assert "Authorization" not in seen[0].headers
    await asked(client(answer), query="x" * 3000)
    assert seen[1].method == "POST"
    assert parse_qs(seen[1].content.decode())["query"] == ["x" * 3000]


async def test_logins_come_from_files_or_the_environment(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization", ""))
        return httpx.Response(200, content=EMPTY)

    secret = tmp_path / "secret"
    secret.write_text("t0ken\n")
    await asked(client(answer, bearerTokenFile=str(secret)))
    await asked(client(answer, {"HETEROSCALE_PROMETHEUS_TOKEN": "other"}))
    await asked(client(answer, username="me", passwordFile=str(secret)))
    await asked(
        client(
            answer,
            {"HETEROSCALE_PROMETHEUS_USERNAME": "me", "HETEROSCALE_PROMETHEUS_PASSWORD": "t0ken"},
        )
    )
    assert seen[:2] == ["Bearer t0ken", "Bearer other"]
    assert seen[2] == seen[3] != ""


async def test_a_token_that_is_renewed_in_its_file_is_used_at_once(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, content=EMPTY)

    secret = tmp_path / "token"
    secret.write_text("first")
    async with client(answer, bearerTokenFile=str(secret)) as one:
        await one.range("up", 0.0, 9.0, 1.0)
        secret.write_text("second\n")
        await one.range("up", 0.0, 9.0, 1.0)
        secret.unlink()
        with pytest.raises(PrometheusError, match="bearerTokenFile"):
            await one.range("up", 0.0, 9.0, 1.0)
    assert seen == ["Bearer first", "Bearer second"]


THANOS_HALF = b"""{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod":"d-0"},
"values":[[0,"1"]]}],"analysis":{}},"warnings":["fetch series for {cluster=\\"b\\"} Addr: 10.0.0.7:10901:
rpc error: code = Unavailable"]}""".replace(b"\n", b" ")
"""What a Thanos answers that was not asked for whole answers, or does not know the word."""


async def test_half_an_answer_is_none() -> None:
    async with client(lambda _: httpx.Response(200, content=THANOS_HALF)) as one:
        found = await one.range("up", 0.0, 9.0, 1.0)
    assert found.partial
    assert "rpc error" in found.warnings[0]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for field, path in (
        ("bearerTokenFile", empty),
        ("bearerTokenFile", tmp_path / "absent"),
        ("caFile", empty),
        ("caFile", tmp_path / "absent"),
    ):
        with pytest.raises(PrometheusError) as error:
            client(lambda _: httpx.Response(200), {}, **{field: str(path)})
        assert str(error.value).startswith(f"{field} {path}")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"", "it wants a login"),
        (401, b"no org id", "name yours (`tenant`, --tenant)"),
        (404, b"page not found", "Mimir's ends in /prometheus"),
        (400, b'{"status":"error","error":"1:5: parse error"}', "1:5: parse error"),
        (500, b"<html>" + b"x" * 10_000, "HTTP 500, <html>"),
        (302, b"", "sends us on to https://sso/login"),
    ],
)
async def test_refusals_say_what_to_do(status: int, body: bytes, says: str) -> None:
    headers = {"location": "https://sso/login"}
    text = await refused(client(lambda _: httpx.Response(status, content=body, headers=headers)))
    assert says in text
    assert len(text) < 600


async def test_a_long_answer_is_cut_off() -> None:
    served = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal served
        while True:
            served += 1
            yield b" " * 1000

    text = await refused(client(lambda _: httpx.Response(200, content=endless()), maxBytes=10_000))
    assert "longer than 10000 bytes" in text
    assert served == 11


async def test_a_server_that_hangs_is_given_up() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    text = await refused(client(never, timeout="50ms"))
    assert "no answer within 0.05 s" in text


async def test_a_server_that_is_not_there() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    assert "cannot be reached: connection refused" in await refused(client(gone))


async def test_too_many_points_are_not_asked_for() -> None:
    one = client(lambda _: httpx.Response(200, content=EMPTY))
    with pytest.raises(PrometheusError, match="longer step"):
        await asked(one, points=MAX_POINTS + 1)


@pytest.mark.parametrize(("points", "series"), [(1, 1), (1440, 3), (1440, 5000), (25_000, 1)])
def test_requests_cover_every_point_once(points: int, series: int) -> None:
    found = [
        (start + k * 60.0)
        for start, end in spans(100.0, points, 60.0, series)
        for k in range(round((end - start) / 60.0) + 1)
    ]
    assert found == [100.0 + k * 60.0 for k in range(points)]
    assert all(
        (end - start) / 60.0 + 1 <= MAX_POINTS for start, end in spans(0, points, 60, series)
    )
