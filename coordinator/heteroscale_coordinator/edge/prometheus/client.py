"""Asks a Prometheus: each request has a deadline, a limit to its answer, and so many points at most."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from heteroscale_coordinator.edge.prometheus.answers import (
    Labels,
    Matrix,
    PrometheusError,
    Vector,
    label_sets,
    matrix,
    vector,
)
from heteroscale_coordinator.edge.prometheus.spec import ServerSpec

MAX_POINTS = 10_000
"""Points of one series in one answer; a Prometheus gives 11,000 at most."""
CONNECTIONS = 8
"""So many requests at once; others wait for one to end."""
LONG = 2000
"""A longer query goes in a form, not in the address."""
LONGEST_WAIT = 3600.0
"""Who asks to be left alone for longer is not believed."""
TOKEN, USERNAME, PASSWORD = (
    f"HETEROSCALE_PROMETHEUS_{name}" for name in ("TOKEN", "USERNAME", "PASSWORD")
)
_NO_TENANT = "it is a Mimir or Cortex of several tenants: name yours (`tenant`, --tenant)"
_HINTS = {
    401: f"it wants a login: `bearerTokenFile` or ${TOKEN}, or `username` and `passwordFile`",
    403: "the login may not read this; Mimir and Cortex want `tenant` too",
    404: "there is no API at this address; Mimir's ends in /prometheus, VictoriaMetrics' cluster's "
    "in /select/0/prometheus",
    429: "it is asked too much: ask less often (`interval`), or raise its limits",
    503: "it is overloaded or gave up; ask for less with a shorter --since or a longer --step",
}


class PrometheusClient:
    """One server; a context that keeps its connections."""

    def __init__(
        self,
        spec: ServerSpec,
        environment: Mapping[str, str] = os.environ,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raise PrometheusError where a file of the login cannot be used."""
        self._spec = spec
        limits = httpx.Limits(max_connections=CONNECTIONS)
        headers, login = _login(spec, environment)
        self._http = httpx.AsyncClient(
            headers=headers,
            auth=login,
            verify=_trust(spec.ca_file),
            timeout=spec.timeout,
            follow_redirects=False,
            limits=limits,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def series(
        self, match: str, start: float, end: float
    ) -> tuple[tuple[Labels, ...], tuple[str, ...]]:
        """Return the labels of all series that match and were there between two moments, and warnings."""
        return label_sets(
            await self._ask("series", {"match[]": match, "start": f"{start}", "end": f"{end}"})
        )

    async def instant(self, query: str, at: float | None = None) -> Vector:
        """Return what a query gives at one moment (of the server's clock); None: now.

        Raises:
            PrometheusError: no usable answer.

        """
        # VictoriaMetrics would answer for half a minute ago, and say that it is now.
        asked = {"query": query, "partial_response": "false", "nocache": "1"}
        return vector(await self._ask("query", asked if at is None else {**asked, "time": f"{at}"}))

    async def range(self, query: str, start: float, end: float, step: float) -> Matrix:
        """Return what a query gives at each ``step`` from ``start`` to ``end``, both included.

        Raises:
            PrometheusError: no usable answer, or more than ``MAX_POINTS`` are asked for.

        """
        if (end - start) / step + 1 > MAX_POINTS:
            raise PrometheusError(
                f"more than {MAX_POINTS} points in one request: use a longer step"
            )
        asked = {"query": query, "start": f"{start}", "end": f"{end}", "step": f"{step:g}"}
        # Thanos would answer with what it has; Prometheus and the others do not know the word.
        return matrix(await self._ask("query_range", {**asked, "partial_response": "false"}))

    async def _ask(self, what: str, fields: Mapping[str, str]) -> bytes:
        url = f"{self._spec.url}/api/v1/{what}"
        long = sum(map(len, fields.values())) > LONG
        request = (
            self._http.build_request("POST", url, data=dict(fields))
            if long
            else self._http.build_request("GET", url, params=dict(fields))
        )
        try:
            async with asyncio.timeout(self._spec.timeout):
                return await self._read(request)
        except (TimeoutError, httpx.TimeoutException):
            raise PrometheusError(
                f"{self._spec.url}: no answer within {self._spec.timeout:g} s; is it overloaded, or "
                "the time asked for too long? (`timeout`, --since)"
            ) from None
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise PrometheusError(f"{self._spec.url}: cannot be reached: {why}") from None

    async def _read(self, request: httpx.Request) -> bytes:
        answer = await self._http.send(request, stream=True)
        try:
            parts: list[bytes] = []
            size = 0
            async for part in answer.aiter_bytes():
                size += len(part)
                if size > self._spec.max_bytes:
                    raise PrometheusError(
                        f"{self._spec.url}: the answer is longer than {self._spec.max_bytes} bytes; "
                        "ask for less with a shorter --since or a longer --step, or raise `maxBytes`"
                    )
                parts.append(part)
        finally:
            await answer.aclose()
        body = b"".join(parts)
        if answer.status_code != httpx.codes.OK:
            raise PrometheusError(
                _refusal(self._spec.url, answer, body),
                status=answer.status_code,
                retry_after=_retry_after(answer.headers.get("retry-after", "")),
            )
        return body


def _retry_after(told: str) -> float:
    """Return seconds; a date, or nonsense, is none."""
    try:
        seconds = float(told)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < LONGEST_WAIT else 0.0


def _refusal(url: str, answer: httpx.Response, body: bytes) -> str:
    code = answer.status_code
    if answer.is_redirect:
        return f"{url}: sends us on to {answer.headers.get('location', '?')}: use that address"
    try:
        told = str(answer_error(body))
    except PrometheusError:
        told = " ".join(body[:200].decode("utf-8", "replace").split())
    hint = _NO_TENANT if "no org id" in told.lower() else _HINTS.get(code, "")
    return f"{url}: HTTP {code}{f', {told}' if told else ''}{f': {hint}' if hint else ''}"


def answer_error(body: bytes) -> str:
    """Return the reason that an error of the API gives. PrometheusError: there is none."""
    try:
        label_sets(body)
    except PrometheusError as error:
        text = str(error)
        if text.startswith("refused: "):
            return text.removeprefix("refused: ")
        raise
    return ""


def _login(
    spec: ServerSpec, environment: Mapping[str, str]
) -> tuple[dict[str, str], httpx.Auth | None]:
    headers = {"X-Scope-OrgID": spec.tenant} if spec.tenant else {}
    headers["Accept"] = "application/json"
    if spec.username is not None and spec.password_file is not None:
        return headers, _FromFile(spec.password_file, "passwordFile", spec.username)
    if spec.bearer_token_file is not None:
        return headers, _FromFile(spec.bearer_token_file, "bearerTokenFile")
    if token := environment.get(TOKEN, "").strip():
        headers["Authorization"] = f"Bearer {token}"
    elif USERNAME in environment:
        return headers, httpx.BasicAuth(environment[USERNAME], environment.get(PASSWORD, ""))
    return headers, None


class _FromFile(httpx.Auth):
    """A login whose secret is read anew for each request: tokens of Kubernetes last an hour."""

    def __init__(self, path: str, field: str, username: str | None = None) -> None:
        self._path, self._field, self._username = path, field, username
        _secret(path, field)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        secret = _secret(self._path, self._field)
        if self._username is not None:
            yield from httpx.BasicAuth(self._username, secret).auth_flow(request)
        else:
            request.headers["Authorization"] = f"Bearer {secret}"
            yield request


def _secret(path: str, field: str) -> str:
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PrometheusError(f"{field} {path}: {_why(error)}") from None
    if not text or "\n" in text:
        raise PrometheusError(f"{field} {path}: must hold one line, the secret alone")
    return text


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise PrometheusError(f"caFile {ca_file}: {_why(error)}") from None


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def spans(start: float, points: int, step: float, series: int) -> Sequence[tuple[float, float]]:
    """Return (start, end) of the requests that together ask for ``points`` from ``start`` on.

    So many that none has more than ``MAX_POINTS`` a series, nor 400,000 in all.
    """
    most = max(1, min(MAX_POINTS, 400_000 // max(1, series)))
    return [
        (start + first * step, start + (min(first + most, points) - 1) * step)
        for first in range(0, points, most)
    ]
