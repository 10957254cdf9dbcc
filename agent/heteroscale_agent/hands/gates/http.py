"""The gate of anything with an HTTP API: requests of the agent's own configuration.

`gate.options`: `hook` names one of them. With a `check` the gate is level-triggered like any other:
its answer is in, out, or unknown. Without one, a request that was answered as expected is believed,
and made again only when the wish changes or the agent has restarted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from heteroscale_agent import tls
from heteroscale_agent.config.gates import HttpCall, HttpCheck, HttpHook, Secret
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.shared import Desk
from heteroscale_agent.hands.gates.upstream_file import values
from heteroscale_agent.hands.http import Client, HttpError, exchange

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES = 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024


class HttpGate:
    """Makes the requests of hooks."""

    def __init__(self, hooks: Mapping[str, HttpHook], http: Client) -> None:
        self._hooks = hooks
        self._http = http
        self._believed: dict[str, bool] = {}
        self._contexts: dict[Path, ssl.SSLContext] = {}
        self._desk = Desk()

    def complaint(self, member: Member) -> str:
        """Return which hook the configuration lacks, or nothing."""
        name = member.gate.options.get("hook", "")
        if not name:
            return "gate http needs the option `hook`"
        if name not in self._hooks:
            return f"no hook {name[:80]!r} in the agent's configuration (gates.http)"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Check, and make the request that corrects; what was seen before is returned."""
        place = member.gate.options["hook"]
        hook = self._hooks[place]
        try:
            seen = await self._seen(hook, member)
            if seen is not wanted_in:
                await self._correct(hook, member, wanted_in=wanted_in)
        except (HttpError, OSError) as error:
            return View({place: None}, f"{place}: {error}"[:300])
        return View({place: seen})

    async def close(self) -> None:
        """Let go of the threads; no connection is kept."""
        self._desk.close()

    async def _seen(self, hook: HttpHook, member: Member) -> bool | None:
        if hook.check is None:
            return self._believed.get(member.instance_id)
        status, data = await self._ask(hook, hook.check, member)
        return judge(hook.check, status, data, _fill(hook.check.lists, values(member)))

    async def _correct(self, hook: HttpHook, member: Member, *, wanted_in: bool) -> None:
        self._believed.pop(member.instance_id, None)
        call = hook.open if wanted_in else hook.close
        status, data = await self._ask(hook, call, member)
        if status not in call.expect:
            # The address is left out: it may hold what is not for everybody.
            told = data[:120].decode("utf-8", errors="replace")
            way = "open" if wanted_in else "close"
            raise HttpError(f"HTTP {status} to {way}: {told}")
        if hook.check is None:
            self._believed[member.instance_id] = wanted_in

    async def _ask(self, hook: HttpHook, call: HttpCall, member: Member) -> tuple[int, bytes]:
        told = values(member)
        # Secrets may lie on storage that hangs: a thread waits for it, one for all of a hook's.
        read = partial(self._read, hook, call)
        headers, trust = await self._desk.do(member.gate.options["hook"], read, hook.timeout)
        return await exchange(
            self._http,
            call.method,
            _fill(call.url, {name: quote(value, safe="") for name, value in told.items()}),
            deadline=hook.timeout,
            body=_filled(call.body, told),
            limit=MAX_ANSWER_BYTES,
            headers=headers,
            tls=trust,
        )

    def _read(
        self, hook: HttpHook, call: HttpCall
    ) -> tuple[list[tuple[str, str]], ssl.SSLContext | None]:
        """Return the headers and the authorities of ``call``; blocks."""
        headers = headers_of(call)
        if hook.ca is None:
            return headers, None
        if hook.ca not in self._contexts:
            self._contexts[hook.ca] = tls.context(hook.ca)
        return headers, self._contexts[hook.ca]


def headers_of(call: HttpCall) -> list[tuple[str, str]]:
    """Return the headers of ``call``, secrets read now; blocks.

    Raises:
        HttpError: a secret is not there.

    """
    secrets = [(name, _secret(name, secret)) for name, secret in call.secrets.items()]
    return [*call.headers.items(), *secrets]


def _secret(name: str, secret: Secret) -> str:
    try:
        if secret.file is not None:
            with secret.file.open("rb") as file:
                value = file.read(MAX_SECRET_BYTES).decode("ascii").split("\n", 1)[0].strip()
        else:
            value = os.environ[secret.env].strip()
    except (OSError, KeyError, UnicodeError) as error:
        raise HttpError(f"no secret for header {name}: {type(error).__name__}") from None
    if not value:
        raise HttpError(f"the secret for header {name} is empty")
    return secret.prefix + value


def judge(check: HttpCheck, status: int, data: bytes, listed: str = "") -> bool | None:
    """Return what an answer says: in, out, or None where it says neither.

    ``listed``: what a list at the pointer holds when the instance is in; empty: values are compared.
    """
    if status in check.out_statuses:
        return False
    if status not in check.in_statuses:
        return None
    return _told(check, data, listed) if check.pointer else True


def _told(check: HttpCheck, data: bytes, listed: str) -> bool | None:
    """Return what the value at the pointer says."""
    try:
        value = _at(json.loads(data), check.pointer)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    if listed:
        whole = isinstance(value, list) and all(isinstance(one, str) for one in value)
        # One that is listed with a slash at its end is listed.
        return listed.rstrip("/") in {one.rstrip("/") for one in value} if whole else None
    for values_of, meaning in ((check.in_values, True), (check.out_values, False)):
        # 1 is not true here: an answer of another kind is no answer.
        if any(type(value) is type(one) and value == one for one in values_of):
            return meaning
    return None


def _at(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def _filled(body: Any, told: Mapping[str, str]) -> Any:
    if isinstance(body, str):
        return _fill(body, told)
    if isinstance(body, list):
        return [_filled(one, told) for one in body]
    if isinstance(body, dict):
        return {_fill(name, told): _filled(one, told) for name, one in body.items()}
    return body


def _fill(text: str, told: Mapping[str, str]) -> str:
    for name, value in told.items():
        text = text.replace(f"{{{name}}}", value)
    return text
