"""The HTTP side: one handler for all paths, streams for watches, and the faults between."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass

from aiohttp import web

from tests.kubernetes.server import discovery, routes
from tests.kubernetes.server.access import Users
from tests.kubernetes.server.calls import Shared, truth
from tests.kubernetes.server.errors import Json, StatusError, expired
from tests.kubernetes.server.faults import Fault, Faults, Wrong
from tests.kubernetes.server.store import Event
from tests.kubernetes.server.watching import Told, Watch

_HTML = b"<html><body>gateway</body></html>"


@dataclass(frozen=True)
class Seen:
    """One request that was answered, for tests to look at."""

    method: str
    path: str
    query: dict[str, str]
    user: str
    code: int
    """0: it got no answer."""


class Http:
    """Answers requests from ``shared``; each whole request is done between two awaits."""

    def __init__(self, shared: Shared, users: Users, faults: Faults) -> None:
        self._shared, self._users, self._faults = shared, users, faults
        self.seen: deque[Seen] = deque(maxlen=20_000)
        self.bookmark_every = 1.0
        self._streams: set[asyncio.Queue[Event | StatusError]] = set()
        self._lifted = asyncio.Event()

    def lift(self) -> None:
        """Let go of requests that hang on a fault which no longer stands."""
        lifted, self._lifted = self._lifted, asyncio.Event()
        lifted.set()

    def expire_watches(self) -> None:
        """End all streams with 410, as a server does that has compacted."""
        error = expired("too old resource version")
        for queue in self._streams:
            queue.put_nowait(error)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        target, query = request.path_qs, dict(request.query)
        watch = truth(query, "watch")
        fault = self._faults.hit(request.method, target, watch=watch)
        body = await request.read()
        if fault and not fault.wrong.startswith("watch"):
            held = await self._hold(request, fault)
            if held is not None:
                self._note(request, query, "", held.status)
                return held
        user = ""
        try:
            user = self._users.of(request.headers.get("Authorization", ""))
            headers = {name.lower(): value for name, value in request.headers.items()}
            asked = routes.Request(request.method, request.path, query, headers, body, user)
            said = self._plain(request) or routes.answer(self._shared, asked)
        except StatusError as error:
            self._note(request, query, user, error.code)
            return web.json_response(error.body(), status=error.code, headers=error.headers)
        except routes.NoSuchPathError:
            self._note(request, query, user, 404)
            return web.Response(status=404, text="404 page not found\n")
        if isinstance(said, Watch):
            self._note(request, query, user, 200)
            return await self._stream(request, said, fault)
        if isinstance(said, web.Response):
            return said
        self._note(request, query, user, 0 if fault and fault.wrong == Wrong.LOST else said.code)
        return await self._reply(request, said, fault)

    def _note(self, request: web.Request, query: dict[str, str], user: str, code: int) -> None:
        self.seen.append(Seen(request.method, request.path, query, user, code))

    def _plain(self, request: web.Request) -> web.Response | routes.Answer | None:
        """Answer what is no object: health, version and discovery."""
        kinds, parts = self._shared.kinds, request.path.strip("/").split("/")
        found: Json | None
        match parts:
            case ["healthz" | "livez" | "readyz"]:
                return web.Response(text="ok")
            case ["version"]:
                found = discovery.VERSION
            case ["api"]:
                found = discovery.core_versions(request.host)
            case ["apis"]:
                found = discovery.groups(kinds)
            case ["api", version]:
                found = discovery.resources(kinds, "", version)
            case ["apis", group]:
                found = discovery.group(kinds, group)
            case ["apis", group, version]:
                found = discovery.resources(kinds, group, version)
            case _:
                return None
        if found is None:
            raise routes.NoSuchPathError
        return routes.Answer(200, found)

    async def _hold(self, request: web.Request, fault: Fault) -> web.Response | None:
        """Do what a fault does before anything is done; None: go on."""
        match fault.wrong:
            case Wrong.STATUS:
                headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
                if fault.code == 429:
                    text = "Too many requests, please try again later.\n"
                    return web.Response(status=429, text=text, headers=headers)
                body = StatusError(fault.code, "made so by the test").body()
                return web.json_response(body, status=fault.code, headers=headers)
            case Wrong.SLOW:
                await asyncio.sleep(fault.seconds)
            case Wrong.HANG:
                while self._faults.stands(fault):
                    await self._lifted.wait()
                _close(request)
            case Wrong.CUT:
                _close(request)
                return web.Response(status=500)
            case Wrong.GARBAGE:
                return web.Response(body=_HTML, content_type="text/html")
            case _:
                pass
        return None

    async def _reply(
        self, request: web.Request, said: routes.Answer, fault: Fault | None
    ) -> web.StreamResponse:
        body = json.dumps(said.body).encode()
        if fault and fault.wrong == Wrong.LOST:
            _close(request)
        elif fault and fault.wrong == Wrong.TRUNCATED:
            cut = web.StreamResponse(status=said.code, headers={"Content-Length": str(len(body))})
            cut.content_type = "application/json"
            await cut.prepare(request)
            await cut.write(body[: len(body) // 2])
            _close(request)
            return cut
        return web.Response(
            status=said.code, body=body, content_type="application/json", headers=dict(said.headers)
        )

    async def _stream(
        self, request: web.Request, watch: Watch, fault: Fault | None
    ) -> web.StreamResponse:
        """Tell a watch until its time is over, its client is gone, or a fault ends it."""
        out = web.StreamResponse(headers={"Cache-Control": "no-cache, private"})
        out.content_type = "application/json"
        queue: asyncio.Queue[Event | StatusError] = asyncio.Queue()
        # What is past and what comes meet here: nothing is awaited between the two.
        past = list(watch.past())
        self._streams.add(queue)
        ended = self._shared.store.listen(queue.put_nowait)
        try:
            await out.prepare(request)
            await self._tell(request, out, watch, queue, lines=past, fault=fault)
        except (ConnectionResetError, asyncio.CancelledError):
            pass
        finally:
            ended()
            self._streams.discard(queue)
        return out

    async def _tell(
        self,
        request: web.Request,
        out: web.StreamResponse,
        watch: Watch,
        queue: asyncio.Queue[Event | StatusError],
        *,
        lines: list[Told],
        fault: Fault | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + watch.timeout if watch.timeout is not None else float("inf")
        sent = 0
        while True:
            for line in lines:
                if fault and sent >= fault.events and await self._broken(request, out, line, fault):
                    return
                await out.write(json.dumps(line.json()).encode() + b"\n")
                sent += 1
                if line.type == "ERROR":
                    return
            if fault and sent >= fault.events and fault.wrong == Wrong.WATCH_END:
                return
            left = end - loop.time()
            if left <= 0:
                return
            lines = await self._next(watch, queue, left, quiet=_stalls(fault, sent))

    async def _next(
        self, watch: Watch, queue: asyncio.Queue[Event | StatusError], left: float, *, quiet: bool
    ) -> list[Told]:
        """Return the next lines: of a change, of the end, or a bookmark."""
        try:
            async with asyncio.timeout(min(left, self.bookmark_every)):
                got = await queue.get()
        except TimeoutError:
            behind = watch.seen < self._shared.store.revision
            return [watch.bookmark()] if watch.bookmarks and behind and not quiet else []
        if isinstance(got, StatusError):
            return [Told("ERROR", got.body())]
        return [] if quiet else list(watch.change(got))

    @staticmethod
    async def _broken(
        request: web.Request, out: web.StreamResponse, line: Told, fault: Fault
    ) -> bool:
        """Break a stream in the way of a fault; True: that was its end."""
        whole = json.dumps(line.json()).encode()
        match fault.wrong:
            case Wrong.WATCH_CUT:
                await out.write(whole[: len(whole) // 2])
                _close(request)
                return True
            case Wrong.WATCH_GARBAGE:
                await out.write(_HTML + b"\n")
            case Wrong.WATCH_END:
                return True
            case _:
                pass
        return False


def _stalls(fault: Fault | None, sent: int) -> bool:
    return fault is not None and fault.wrong == Wrong.WATCH_STALL and sent >= fault.events


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort() if hasattr(
            request.transport, "abort"
        ) else request.transport.close()
