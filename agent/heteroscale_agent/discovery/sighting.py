"""An engine as one source sees it; what it cannot tell is None, for others to add."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import get_args

from heteroscale.words import Role
from heteroscale_agent.config.fields import EngineKind

ENGINES: tuple[str, ...] = get_args(EngineKind)
USUAL_PORT = {"vllm": 8000, "sglang": 30000, "llamacpp": 8080, "tensorrt-llm": 8000, "tgi": 3000}
_ROLES = {
    "both": Role.AGGREGATED,
    "prefill-decode": Role.AGGREGATED,
    "kv_producer": Role.PREFILL,
    "kv_consumer": Role.DECODE,
    "kv_both": Role.AGGREGATED,
    "null": Role.AGGREGATED,
    "context": Role.PREFILL,
    "generation": Role.DECODE,
}
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_PATH = re.compile(r"/[!-~]{0,200}")
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Sighting:
    """One engine, by one source. ``owner`` (`pod:UID`, `job:ID`, `pid:PID.TICKS`) is never empty."""

    owner: str
    origin: str
    """As people know it: `pod/NAMESPACE/NAME`, `job/ID`, `process/PID`."""
    host: str = ""
    """Where it serves; empty: not known."""
    port: int | None = None
    service: str = ""
    role: Role | None = None
    engine: str = ""
    model: str = ""
    metrics_path: str = ""
    gpus: tuple[int, ...] | None = None
    """Indices of the GPUs it holds; None: not known."""
    pid: int = 0
    ready: bool | None = None
    """Whether its owner says that it serves; None: nobody says, its metrics will tell."""
    leaving: bool = False
    """Its owner is about to end it."""
    notes: tuple[str, ...] = field(default=())
    told_as: str = ""
    """The instance as which an adapter of the coordinator tells of it: here it is only measured."""


def role_of(text: str) -> Role | None:
    """Return the role of a word of ours, of llm-d, or of an engine's option."""
    word = text.strip().lower()
    with suppress(ValueError):
        return Role(word)
    return _ROLES.get(word)


def port_of(text: str) -> int | None:
    """Return a port number, or None."""
    text = text.strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < len("100000") else 0
    return number if 0 < number <= MAX_PORT else None


def service_of(text: str) -> str:
    """Return the name of a service; of a model's name, the service that is called like it.

    ``Qwen/Qwen3-8B`` is ``qwen3-8b``; what cannot be made a name is empty.
    """
    name = re.sub(r"[^a-z0-9.-]+", "-", text.rpartition("/")[2].strip().lower())[:63].strip(".-")
    return name if _SERVICE.fullmatch(name) else ""


def engine_of(text: str) -> str:
    """Return the kind of engine, or nothing."""
    word = text.strip().lower()
    return word if word in ENGINES else ""


def path_of(text: str) -> str:
    """Return an HTTP path, or nothing."""
    return text if _PATH.fullmatch(text) else ""


def ruled(rules: Mapping[str, str], model: str) -> str:
    """Return the service that the configuration's rules give a model, or nothing."""
    names = {model, model.rpartition("/")[2]}
    for pattern, service in rules.items():
        if any(fnmatchcase(name, pattern) for name in names):
            return service
    return ""


def instance_id(owner: str, port: int | None, *salt: str) -> str:
    """Return an id that lasts as long as the engine; ``salt`` keeps other hosts' ids apart."""
    kind, _, name = owner.partition(":")
    if not _ID.fullmatch(name):
        salt, name = (*salt, name), "x"
    digest = hashlib.sha256("\0".join(salt).encode()).hexdigest()[:8]
    return "-".join((kind, name, *([str(port)] if port and kind != "pid" else []), digest))
