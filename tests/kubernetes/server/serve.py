"""The server as tests hold it: on a thread of its own, so that a test may block."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trustme
import yaml
from aiohttp import web

from tests.kubernetes.server import writes
from tests.kubernetes.server.access import Users
from tests.kubernetes.server.calls import ADMIN, Call, Shared
from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.faults import Fault, Faults
from tests.kubernetes.server.http import Http, Seen

T = TypeVar("T")
SPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
ADMIN_TOKEN = "admin-token"
_SLOW = 60.0


@dataclass
class _Running:
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    http: Http
    port: int
    stop: asyncio.Event


class ApiServer:
    """A small API server over loopback. ``controllers`` is called with what it shares, on its thread."""

    def __init__(
        self,
        *,
        shared: Shared | None = None,
        controllers: Callable[[Shared], None] | None = None,
        tls: bool = False,
    ) -> None:
        """``tls``: speak https, as a pod's own account and kubectl's tokens need it."""
        self.shared = shared or Shared()
        self.faults = Faults()
        self.users = Users({ADMIN_TOKEN: ADMIN})
        self._controllers = controllers
        self._authority = trustme.CA() if tls else None
        self._up: _Running | None = None

    # ---- its life ------------------------------------------------------------------------------

    def start(self) -> ApiServer:
        """Serve on a free port of loopback."""
        ready: threading.Event = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001 - told to whoever started it
                failed.append(error)
                ready.set()

        self._thread = threading.Thread(target=work, name="api-server", daemon=True)
        self._thread.start()
        ready.wait(_SLOW)
        if failed:
            raise failed[0]
        return self

    def stop(self) -> None:
        """Close all connections and end."""
        if self._up:
            up, self._up = self._up, None
            self.faults.clear()
            up.loop.call_soon_threadsafe(up.http.lift)
            up.loop.call_soon_threadsafe(up.stop.set)
            up.thread.join(_SLOW)

    async def _serve(self, ready: threading.Event) -> None:
        http = Http(self.shared, self.users, self.faults)
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", http.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls())
        await site.start()
        port = runner.addresses[0][1]
        stop = asyncio.Event()
        for name in SPACES:
            self.make("v1", "Namespace", {"metadata": {"name": name}})
        if self._controllers:
            self._controllers(self.shared)
        else:
            for name in SPACES:
                self.make(
                    "v1", "ServiceAccount", {"metadata": {"name": "default", "namespace": name}}
                )
        loop = asyncio.get_running_loop()
        self._up = _Running(loop, threading.current_thread(), http, port, stop)
        ready.set()
        await stop.wait()
        await runner.cleanup()

    # ---- how to reach it -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"{'https' if self._authority else 'http'}://127.0.0.1:{self._running.port}"

    @property
    def authority(self) -> bytes:
        """PEM of the authority that speaks for the server; empty without TLS."""
        return self._authority.cert_pem.bytes() if self._authority else b""

    def _tls(self) -> ssl.SSLContext | None:
        if self._authority is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        return context

    @property
    def _running(self) -> _Running:
        assert self._up, "the server does not run"
        return self._up

    def kubeconfig(self, path: Path, token: str = ADMIN_TOKEN, namespace: str = "default") -> Path:
        """Write a kubeconfig for one token, and return its path."""
        cluster = {"server": self.url}
        if self._authority:
            cluster["certificate-authority-data"] = base64.b64encode(self.authority).decode()
        said = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}
            ],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(said))
        return path

    def token(self, user: str) -> str:
        """Return a token for ``user``, for instance ``system:serviceaccount:heteroscale:coordinator``."""
        token = f"token-{len(self.users.tokens)}"
        self.users.tokens[token] = user
        return token

    # ---- what tests do to it -------------------------------------------------------------------

    def do(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the server's own thread and return what it returns."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._running.loop).result(_SLOW)

    def fault(self, fault: Fault) -> Fault:
        """Have a fault stand."""
        return self.do(lambda: self.faults.add(fault))

    def heal(self) -> None:
        """Lift all faults, and let go of what hangs on them."""

        def work() -> None:
            self.faults.clear()
            self._running.http.lift()

        self.do(work)

    def compact(self) -> None:
        """Forget the past: whoever goes on from before now gets 410. Open streams go on."""
        self.do(self.shared.store.compact)

    def expire(self) -> None:
        """Forget the past, and end open streams with 410."""

        def work() -> None:
            self.shared.store.compact()
            self._running.http.expire_watches()

        self.do(work)

    def bookmarks(self, seconds: float) -> None:
        """Have streams that want bookmarks get one this often, if anything has changed."""
        self.do(lambda: setattr(self._running.http, "bookmark_every", seconds))

    def seen(self) -> list[Seen]:
        """Return the requests so far."""
        return self.do(lambda: list(self._running.http.seen))

    def forget(self) -> None:
        """Forget the requests so far."""
        self.do(self._running.http.seen.clear)

    def make(self, api_version: str, kind: str, obj: Json) -> Json:
        """Create an object as the administrator, past HTTP; on the server's thread only."""
        found = self.shared.kinds.of(api_version, kind)
        assert found, f"{api_version} {kind} is not served"
        call = Call(found, obj["metadata"].get("namespace", ""), agent="setup")
        given = json.loads(json.dumps({"apiVersion": api_version, "kind": kind, **obj}))
        return writes.create(self.shared, call, given)
