"""Which version an engine says it is: each that we launched is asked once, when it has begun to answer.

vLLM tells it at `/version`, SGLang in `/server_info` (`/get_server_info` in older releases), beside the
metrics. What does not answer so is asked a few times more and then left alone: templates may say it too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import structlog

from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.ports import Clock, ScrapeTarget

log = structlog.get_logger(__name__)

PATHS: Mapping[str, tuple[str, ...]] = {
    "vllm": ("/version",),
    "sglang": ("/server_info", "/get_server_info"),
}
"""By engine, where it is asked; of several the first that answers."""
MAX_BYTES = 1024 * 1024
TRIES, BETWEEN_S = 3, 60.0
_OK = 200
_VERSION = re.compile(r"[\w.+!-]{1,64}", re.ASCII)


class Versions:
    """Asks engines beside their scrapes; nobody waits for it."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        """Ask, and wait ``timeout`` seconds for each answer at most."""
        self._clock, self._timeout = clock, timeout
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._tries: dict[str, list[float]] = {}
        """When each engine that has not told was asked."""
        self._told: set[str] = set()
        self.of_templates: dict[str, str] = {}
        """What the engine of each template that told last said. Kept when it ends."""

    def look(self, answering: Iterable[ScrapeTarget]) -> None:
        """Ask those of ``answering`` that were not; forget what is none of them any more."""
        targets = {one.instance_id: one for one in answering if one.template}
        self._told &= targets.keys()
        for gone in self._tries.keys() - targets.keys():
            del self._tries[gone]
        for name, target in targets.items():
            if target.engine in PATHS and self._due(name):
                self._tries.setdefault(name, []).append(self._clock())
                asking = asyncio.create_task(self._ask(target), name=f"version of {name}")
                self._asking[name] = asking

    async def close(self) -> None:
        """Give up what is under way."""
        for asking in self._asking.values():
            asking.cancel()
        if self._asking:
            await asyncio.wait(self._asking.values())

    def _due(self, name: str) -> bool:
        asked, asking = self._tries.get(name, []), self._asking.get(name)
        if name in self._told or len(asked) >= TRIES or (asking and not asking.done()):
            return False
        return not asked or self._clock() - asked[-1] >= BETWEEN_S

    async def _ask(self, target: ScrapeTarget) -> None:
        parts = urlsplit(target.url)
        for path in PATHS[target.engine]:
            url = f"{parts.scheme}://{parts.netloc}{path}"
            try:
                status, body = await exchange(
                    "GET", url, deadline=self._timeout, limit=MAX_BYTES, headers=[("Accept", "*/*")]
                )
            except ExchangeError as error:
                log.debug("version not told", instance=target.instance_id, error=str(error))
                continue
            if (version := _version(body) if status == _OK else "") != "":
                self._told.add(target.instance_id)
                self.of_templates[target.template] = version
                return


def _version(body: bytes) -> str:
    """Return the version in an answer; empty when it is no answer of the kind."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    version = told.get("version") if isinstance(told, dict) else None
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else ""
