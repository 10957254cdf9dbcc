"""One request and its answer: in its turn, within its deadline, and asked again where that is safe."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.configuration import Configuration

from heteroscale_scheduler_adapters.kubernetes import names, objects
from heteroscale_scheduler_adapters.kubernetes.errors import (
    TOO_MANY,
    Ask,
    BudgetError,
    fault,
    status_of,
)
from heteroscale_scheduler_adapters.kubernetes.pace import Pace
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.settings import RequestSettings
from heteroscale_scheduler_adapters.port import AdapterError, UnavailableError

UNAVAILABLE = 503
BAD = 400


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it leaves."""

    ask: Ask
    method: str
    path: str
    query: Mapping[str, str]
    body: Any = None
    content: str = "application/json"


class Wire:
    """The connections to one API server, and how fast they may be used."""

    def __init__(self, configuration: Configuration, settings: RequestSettings) -> None:
        self._settings = settings
        self._pace = Pace(settings.per_second, settings.burst)
        self._api = ApiClient(configuration)
        self._api.user_agent = names.MANAGER

    async def close(self) -> None:
        """Let go of connections."""
        await self._api.close()

    async def asked(self, request: Request) -> Object:
        """Return what an answer says. UnavailableError: there is none, or no object."""
        ask = request.ask
        async with self.deadline(ask, self._settings.timeout):
            answer = await self.send(request)
            try:
                data = json.loads(await answer.read())
            except ValueError as error:
                raise UnavailableError(
                    f"{ask}: the answer is no JSON; is this an API server?"
                ) from error
            except aiohttp.ClientError as error:
                raise UnavailableError(f"{ask}: the answer broke off: {error}") from error
        if not isinstance(data, dict):
            raise UnavailableError(f"{ask}: the answer is no object")
        return data

    async def send(
        self, request: Request, *, endless: bool = False, patient: bool = True
    ) -> aiohttp.ClientResponse:
        """Return an answer whose status is a success; what it says is not read yet."""
        while True:
            await self._turn()
            answer = await self._request(request, endless=endless)
            if answer.status < BAD:
                return answer
            error, wait = await _failure(request.ask, answer)
            # A budget that is not counted yet says when to come again too: that is one pod's matter.
            if wait and not isinstance(error, BudgetError):
                self._pace.hold(asyncio.get_running_loop().time(), wait)
            # Turned away unread: asking again cannot do a thing twice.
            if not (patient and wait and answer.status in (TOO_MANY, UNAVAILABLE)):
                raise error
            if wait >= self._settings.timeout:
                raise error

    async def _turn(self) -> None:
        wait = self._pace.take(asyncio.get_running_loop().time())
        if wait > 0:
            await asyncio.sleep(wait)

    async def _request(self, request: Request, *, endless: bool) -> aiohttp.ClientResponse:
        timeout = self._settings.timeout
        try:
            answer: aiohttp.ClientResponse = await self._api.call_api(
                request.path,
                request.method,
                query_params=list(request.query.items()),
                header_params={"Accept": "application/json", "Content-Type": request.content},
                body=request.body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=aiohttp.ClientTimeout(
                    total=None if endless else timeout, sock_connect=timeout
                ),
            )
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            host = self._api.configuration.host
            raise UnavailableError(f"{request.ask}: {host} does not answer: {why}") from error
        return answer

    @asynccontextmanager
    async def deadline(self, ask: Ask, seconds: float) -> AsyncIterator[None]:
        """Do what is within, in so many seconds; else UnavailableError."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise UnavailableError(f"{ask}: no answer within {seconds:g} s") from error


async def _failure(ask: Ask, answer: aiohttp.ClientResponse) -> tuple[AdapterError, float]:
    """Return what an answer's status means, and how long the server asks to be left alone."""
    try:
        body = (await answer.read()).decode(errors="replace")
    except aiohttp.ClientError:
        body = ""
    said = objects.part(status_of(body), "details").get("retryAfterSeconds")
    wait = _seconds(answer.headers.get("Retry-After")) or _seconds(said)
    return fault(ask, answer.status, body, wait), wait


def _seconds(value: object) -> float:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0


async def lines(answer: aiohttp.ClientResponse, stall: float) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, however long: an object may be larger than any buffer.

    What comes after the last line's end is a line too, and torn. Raises TimeoutError: nothing has come
    for ``stall`` seconds.
    """
    rest = bytearray()
    while True:
        async with asyncio.timeout(stall):
            piece = await answer.content.readany()
        if not piece:
            break
        seen, start = len(rest), 0
        rest += piece
        while (end := rest.find(b"\n", max(seen, start))) >= 0:
            yield bytes(rest[start:end])
            start = end + 1
        del rest[:start]
    if rest:
        yield bytes(rest)
