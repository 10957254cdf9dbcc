"""The gate of vLLM production-stack's router: its dynamic config file, and what it says it has loaded.

`routers` are the router's base URLs; `gate.options`: `path` of its `--dynamic-config-json`, below the
agent's gate folder; `model`, the served name; and for a file that is not there yet `routing_logic`.
The router reads the file every ten seconds or so, and tells at `GET /health` what it has in force
(`dynamic_config`). Only that counts: a file that was written is a wish. Lists in it are joined by
commas and go together by position; entries of others, and all other keys, stay as they are. Read in
its source (August 2026) and tried on it.

A router tells of a configuration once it has taken it over. So one that has told of an instance, and
then no longer does, has let go of it. But one that never told may have read the file while the
instance stood there, and be about to: then "not told" is out only `PATIENCE` after it was taken out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from heteroscale.words import Role
from heteroscale_agent.exchange import ExchangeError, split
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.shared import Desk, below, locked, read_text, write_whole
from heteroscale_agent.hands.http import Client, HttpError, exchange, parse_object

DEADLINE = 3.0
"""Seconds for one request to a router."""
PATIENCE = 30.0
"""Seconds within which a router has read the file: it looks every 10, and may have been slow."""
MAX_ROUTERS = 16
NOBODY, NO_MODEL = "http://127.0.0.1:1", "nobody-is-in-service"
"""The router cannot read an empty list; this stands there instead."""
LABELS = {Role.PREFILL: "prefill", Role.ATTENTION: "prefill", Role.DECODE: "decode"}
_LISTS = {"static_models": "", "static_model_labels": "default", "static_model_types": "chat"}
"""Lists that go together with `static_backends`, and what an entry of no word has there."""


class ConfigError(RuntimeError):
    """The file is not as it can be changed; the text says how."""


class ProductionStackGate:
    """Keeps backends in or out of dynamic config files, and hears from every router of it."""

    def __init__(
        self,
        clock: Callable[[], float],
        folder: Path,
        http: Client,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._http = http
        self._wall = wall
        self._desk = Desk()
        self._doubts: dict[tuple[str, str], float] = {}
        """Until when a router may have read what it does not tell of yet; 0 where it has told."""

    def complaint(self, member: Member) -> str:
        """Return what is wrong with options, routers or role, or nothing."""
        options, routers = member.gate.options, member.gate.routers
        if member.role not in (*LABELS, Role.AGGREGATED):
            return f"production-stack has no backends of role {member.role}"
        if below(options.get("path", "")) is None:
            return "gate production-stack needs a `path` below the agent's gate folder"
        if not options.get("model") or "," in options["model"]:
            return "gate production-stack needs `model`, the served name, without a comma"
        if not routers or len(routers) > MAX_ROUTERS:
            return f"gate production-stack needs 1 to {MAX_ROUTERS} routers, not {len(routers)}"
        for router in routers:
            try:
                split(router)
            except ExchangeError as error:
                return f"router {error}"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Change the file where it differs; what every router said before is returned."""
        routers = list(dict.fromkeys(router.rstrip("/") for router in member.gate.routers))
        told = await asyncio.gather(*(self._ask(router, member) for router in routers))
        said = [f"{r}: {why}" for r, (_, why) in zip(routers, told, strict=True) if why]
        path = self._folder / member.gate.options["path"]
        try:
            change = partial(_change, path, member, self._wall, wanted_in=wanted_in)
            was_in, age = await self._desk.do(str(path), change)
        except (OSError, ConfigError) as error:
            said.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            return View(dict.fromkeys(routers), "; ".join(said)[:400])
        places: dict[str, bool | None] = {}
        for router, (seen, _) in zip(routers, told, strict=True):
            doubted = self._doubted((router, member.endpoint), was_in, wanted_in, seen, age)
            places[router] = seen
            if wanted_in and seen and not was_in:
                places[router] = None  # told of an older file; it may be about to leave
            elif not wanted_in and seen is False and doubted:
                places[router] = None
        return View(places, "; ".join(said)[:400])

    async def close(self) -> None:
        """Let go of the threads; the file stays as it is."""
        self._desk.close()

    def _doubted(
        self,
        key: tuple[str, str],
        was_in: bool,
        wanted_in: bool,
        seen: bool | None,
        age: float | None,
    ) -> bool:
        """Return whether a router may have read the entry and not have told of it.

        ``age``: seconds since the file was changed last; None: there was none.
        """
        now = self._clock()
        if was_in and seen:
            self._doubts[key] = 0.0
        elif was_in or wanted_in:
            self._doubts[key] = now + PATIENCE
        elif key not in self._doubts:
            # This agent has just started: the file's own age tells.
            left = 0.0 if age is None else max(0.0, PATIENCE - max(0.0, age))
            self._doubts[key] = now + left
        return now < self._doubts[key] or was_in

    async def _ask(self, router: str, member: Member) -> tuple[bool | None, str]:
        """Return whether the router has the instance in force, or None and why nobody knows."""
        try:
            url = f"{router}/health"
            status, data = await exchange(self._http, "GET", url, deadline=DEADLINE)
            return _has(_in_force(status, data), member), ""
        except (HttpError, ConfigError) as error:
            return None, str(error)[:160]


def _in_force(status: int, data: bytes) -> dict[str, Any]:
    """Return what the router has taken over last, of its answer to /health."""
    if status != HTTPStatus.OK:
        raise HttpError(f"HTTP {status} for /health")
    config = parse_object(data).get("dynamic_config")
    if not isinstance(config, dict):
        raise HttpError("/health tells of no dynamic_config: start it with --dynamic-config-json")
    return config


def _has(config: dict[str, Any], member: Member) -> bool | None:
    """Return whether a configuration in force has the instance, in its role; None: in another."""
    if config.get("service_discovery") != "static":
        raise ConfigError(f"the router's service_discovery is {config.get('service_discovery')!r}")
    rows = _rows(config)
    mine = [row for row in rows if row["static_backends"].rstrip("/") == member.endpoint]
    if not mine:
        return False
    return True if _row(member) in mine else None


def _row(member: Member) -> dict[str, str]:
    return {
        "static_backends": member.endpoint,
        "static_models": member.gate.options["model"],
        "static_model_labels": LABELS.get(member.role, "default"),
        "static_model_types": member.gate.options.get("model_type", "chat"),
    }


def _rows(config: dict[str, Any]) -> list[dict[str, str]]:
    """Return the backends with what stands at their places. Raises ConfigError for uneven lists."""
    backends = _split(config.get("static_backends"))
    columns = {"static_backends": backends}
    for name, blank in _LISTS.items():
        column = _split(config.get(name)) or [blank] * len(backends)
        if len(column) != len(backends):
            raise ConfigError(f"{name} has {len(column)} entries for {len(backends)} backends")
        columns[name] = column
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _split(value: object) -> list[str]:
    if value in (None, ""):
        return []
    if not isinstance(value, str):
        raise ConfigError(f"{value!r} is no list joined by commas")
    return [part.strip() for part in value.split(",")]


def _change(
    path: Path, member: Member, wall: Callable[[], float], *, wanted_in: bool
) -> tuple[bool, float | None]:
    """Write the file where it differs; return whether the entry stood there, and the file's age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        text = read_text(path)
        age = wall() - path.stat().st_mtime if text else None
        config = _parsed(text, member)
        rows, own = _rows(config), _row(member)
        mine = [row for row in rows if row["static_backends"].rstrip("/") == member.endpoint]
        others = [row for row in rows if row not in mine and row["static_backends"] != NOBODY]
        if mine != [own] if wanted_in else bool(mine) or not text or not rows:
            _put(config, [*others, own] if wanted_in else others)
            write_whole(path, json.dumps(config, indent=1) + "\n")
        return bool(mine), age


def _parsed(text: str, member: Member) -> dict[str, Any]:
    if not text.strip():
        logic = member.gate.options.get("routing_logic", "roundrobin")
        config: Any = {"service_discovery": "static", "routing_logic": logic}
        if member.role in LABELS:
            config |= {"prefill_model_labels": "prefill", "decode_model_labels": "decode"}
        return dict(config)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError("is no JSON; it is left as it is") from None
    if not isinstance(config, dict) or config.get("service_discovery") != "static":
        raise ConfigError("is not of service_discovery static; it is left as it is")
    return config


def _put(config: dict[str, Any], rows: list[dict[str, str]]) -> None:
    """Write the lists anew; those that nobody uses stay away."""
    rows = rows or [{"static_backends": NOBODY, **_LISTS, "static_models": NO_MODEL}]
    config["static_backends"] = ",".join(row["static_backends"] for row in rows)
    for name, blank in _LISTS.items():
        column = [row[name] for row in rows]
        if config.get(name) or any(value != blank for value in column):
            config[name] = ",".join(column)
