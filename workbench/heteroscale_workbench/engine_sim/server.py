"""The engine's HTTP face: the OpenAI API, what routers ask for, metrics, and faults on request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import http_exceptions, web

from heteroscale_workbench.engine_sim.asked import Asked, read_body
from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.exposition import Exposition
from heteroscale_workbench.engine_sim.faults import Faults, MetricsFault, garble, huge
from heteroscale_workbench.engine_sim.frames import Answer, chunk, error_body
from heteroscale_workbench.engine_sim.job import EngineError, Job
from heteroscale_workbench.engine_sim.role_switch import switch
from heteroscale_workbench.engine_sim.settings import Mode
from heteroscale_workbench.seen import SeenWriter, clean_id

MAX_BODY = 64 * 1024 * 1024
MAX_UNREAD = 4 * 1024 * 1024
"""Bytes a client may leave unread before it is cut off."""
MAX_REMEMBERED = 100_000
"""Request ids kept to tell a retry."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class EngineServer:
    """Serves one engine."""

    def __init__(
        self, engine: Engine, exposition: Exposition, faults: Faults, seen: SeenWriter | None
    ) -> None:
        self.draining = False
        self.quiet = asyncio.Event()
        """Set while no request is being answered, to its last byte."""
        self.quiet.set()
        self._answering = 0
        self._engine = engine
        self._settings = engine.settings
        self._exposition = exposition
        self._faults = faults
        self._seen = seen
        self._ids: Counter[str] = Counter()
        # The router's probe for gRPC is HTTP/2 spoken to an HTTP/1 server: no news.
        logging.getLogger("aiohttp.server").addFilter(_no_bad_http)

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors])
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        for path in ("/server_info", "/get_server_info"):
            app.router.add_get(path, self._server_info)
        for path in ("/model_info", "/get_model_info"):
            app.router.add_get(path, self._model_info)
        app.router.add_post("/pd_role_switch", self._switch_role)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/_seen", self._show_seen)
        if self._settings.allow_faults:
            app.router.add_post("/_fault", self._set_fault)
        return app

    # ---- the OpenAI API --------------------------------------------------------------------

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=True)

    async def _answer(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        if self.draining:
            raise EngineError("the engine is shutting down", 503)
        try:
            body = await request.json()
        except ValueError as error:
            raise EngineError(f"the body is not JSON: {error}", 400) from error
        asked = read_body(body, chat=chat)
        request_id = request.headers.get("X-Request-Id") or asked.rid or uuid.uuid4().hex
        self._remember(request_id)
        job, answer = self._job(request_id, asked, chat=chat)
        self._engine.submit(job)
        self._answering += 1
        self.quiet.clear()
        try:
            if asked.stream:
                return await self._stream(request, job, answer, asked)
            await job.done
            return web.json_response(answer.whole())
        finally:
            self._engine.abort(job)
            self._answering -= 1
            if not self._answering:
                self.quiet.set()

    def _job(self, request_id: str, asked: Asked, *, chat: bool) -> tuple[Job, Answer]:
        # A prefill makes one token, whatever was asked for; the decode makes them all.
        tokens = 1 if self._engine.settings.mode is Mode.PREFILL else asked.max_tokens
        answer = Answer(
            chat=chat,
            id=f"{'chatcmpl' if chat else 'cmpl'}-{clean_id(request_id)}",
            model=self._settings.model,
            created=int(time.time()),
            prompt_tokens=asked.prompt_tokens,
            completion_tokens=tokens,
            cached_tokens=int(asked.prompt_tokens * self._settings.cache_hit),
        )
        job = Job(
            request_id=request_id,
            prompt_tokens=asked.prompt_tokens,
            max_tokens=tokens,
            streaming=asked.stream,
            arrived=asyncio.get_running_loop().time(),
            bootstrap=asked.bootstrap,
            frame=chunk(answer.token()),
        )
        return job, answer

    async def _stream(
        self, request: web.Request, job: Job, answer: Answer, asked: Asked
    ) -> web.StreamResponse:
        await job.first
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        ready, job.unsent = job.unsent, 0
        early = answer.opening() + answer.token() * ready
        if early:
            await response.write(early)
            self._let_the_loop_write(request, job)
        try:
            await job.done
        except EngineError:
            _cut(request)
            return response
        job.sink = None
        late = answer.token() * job.unsent
        await response.write(late + answer.closing(include_usage=asked.include_usage))
        await response.write_eof()
        return response

    @staticmethod
    def _let_the_loop_write(request: web.Request, job: Job) -> None:
        """From now on the decode loop writes each token itself: no task is woken per token."""
        transport = request.transport
        if transport is None or job.done.done():
            return

        def write(frame: bytes) -> None:
            if transport.get_write_buffer_size() > MAX_UNREAD:
                transport.abort()
            elif not transport.is_closing():
                transport.write(frame)

        for _ in range(job.unsent):
            write(job.frame)
        job.unsent = 0
        job.sink = write

    def _remember(self, request_id: str) -> None:
        name = clean_id(request_id)
        self._ids[name] += 1
        self._engine.stats.duplicates += self._ids[name] > 1
        if len(self._ids) > MAX_REMEMBERED:
            del self._ids[next(iter(self._ids))]
        if self._seen is not None:
            self._seen.add(name)

    # ---- what routers and watchers ask -----------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        healthy = not (self.draining or self._faults.unhealthy)
        return web.Response(status=200 if healthy else 503)

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self._settings.model, "object": "model", "owned_by": "heteroscale"}
        return web.json_response({"object": "list", "data": [model]})

    async def _server_info(self, _: web.Request) -> web.Response:
        settings = self._settings
        mode = "null" if settings.mode is Mode.AGGREGATED else settings.mode.value
        info: dict[str, Any] = {
            "model_path": settings.model,
            "served_model_name": settings.model,
            "disaggregation_mode": mode,
            "disaggregation_bootstrap_port": settings.bootstrap_port,
            "dp_size": 1,
            "tp_size": 1,
            "max_total_num_tokens": settings.gpu_profile.kv_capacity_tokens,
            "max_running_requests": settings.gpu_profile.max_batch,
            "simulated_gpu": settings.gpu,
            "version": "engine-sim",
            "internal_states": [{"disaggregation_mode": self._engine.settings.mode.value}],
        }
        if settings.mode is Mode.AGGREGATED:
            info["internal_states"] = [{"disaggregation_mode": "null"}]
        return web.json_response(info)

    async def _switch_role(self, request: web.Request) -> web.Response:
        try:
            asked: Any = await request.json()
        except ValueError as error:
            raise EngineError(f"the body is not JSON: {error}", 400) from error
        status, answer = switch(self._engine, asked)
        if self._seen is not None:
            self._seen.play(self._engine.settings.mode)
        return web.json_response(answer, status=status)

    async def _model_info(self, _: web.Request) -> web.Response:
        return web.json_response({"model_path": self._settings.model, "is_generation": True})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.metrics
        if fault is MetricsFault.HANG:
            await asyncio.Event().wait()
        if fault is MetricsFault.ERROR:
            return web.Response(status=500)
        content = "text/html" if fault is MetricsFault.HTML else "text/plain; version=0.0.4"
        if fault is MetricsFault.HUGE:
            response = web.StreamResponse(headers={"Content-Type": content})
            await response.prepare(request)
            async for block in huge():
                await response.write(block)
            return response
        text = garble(self._exposition.render(), fault)
        return web.Response(body=text, headers={"Content-Type": content})

    async def _show_seen(self, _: web.Request) -> web.Response:
        twice = {name: count for name, count in self._ids.items() if count > 1}
        body = {
            "role": self._settings.mode.value,
            "requests": self._ids.total(),
            "duplicates": twice,
        }
        return web.json_response(body)

    async def _set_fault(self, request: web.Request) -> web.Response:
        body: Any = await request.json()
        known = {"metrics", "unhealthy"}
        if not isinstance(body, dict) or set(body) - known:
            raise EngineError(f"a fault is an object with keys of {sorted(known)}", 400)
        try:
            if "metrics" in body:
                name = body["metrics"]
                self._faults.metrics = None if name is None else MetricsFault(name)
        except ValueError as error:
            raise EngineError(str(error), 400) from error
        self._faults.unhealthy = bool(body.get("unhealthy", self._faults.unhealthy))
        return web.json_response(
            {"metrics": self._faults.metrics, "unhealthy": self._faults.unhealthy}
        )


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure as OpenAI's API does."""
    try:
        return await handler(request)
    except EngineError as error:
        status, message = error.status, str(error)
    except web.HTTPException as error:
        status, message = error.status, error.reason
    body = json.dumps(error_body(message, status))
    return web.Response(status=status, text=body, content_type="application/json")


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _no_bad_http(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.BadHttpMessage)
