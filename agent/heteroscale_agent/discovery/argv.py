"""Which engine a command line starts, and what it says of port, model and role.

Known are the servers' documented ways to be started; a wrapper (`srun`, `timeout`, a shell) is not the
engine, its child is. Options are read as they are written, ``--port 8000`` and ``--port=8000``, dashes
and underscores alike.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_agent.discovery.sighting import port_of, role_of

MAX_WORDS = 2000
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.cli.main": "vllm",
    "sglang.launch_server": "sglang",
    "tensorrt_llm.commands.serve": "tensorrt-llm",
}
_PROGRAMS = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llama-server": "llamacpp",
    "trtllm-serve": "tensorrt-llm",
    "text-generation-launcher": "tgi",
}
_VERBS = {"vllm": "serve", "sglang": "serve"}
"""Programs that are engines' servers only with this word after them."""
_HERE = "127.0.0.1"
_USUAL_HOST = {"vllm": "", "sglang": _HERE, "llamacpp": _HERE, "tensorrt-llm": _HERE, "tgi": ""}
"""Where they listen when they are not told; empty: at every address."""
_NOT_SERVERS = frozenset({"disaggregated", "mm_embedding_serve", "disaggregated_mpi_worker"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]", ""})  # noqa: S104 - recognised, not listened on


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a command line tells."""

    engine: str
    host: str
    """The one address it listens at; empty: all."""
    port: int | None
    model: str
    role: Role


def recognise(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Recognised | None:
    """Return what ``argv`` starts, or None when it is no engine's server."""
    words = list(argv[:MAX_WORDS])
    engine, rest = _engine(words)
    if not engine:
        return None
    options = _options(rest)
    host = options.get("host", options.get("hostname", _USUAL_HOST[engine]))
    model = _first(
        options, "served-model-name", "alias", "a", "model-id", "model-path", "model", "m"
    )
    if not model and engine in {"vllm", "tensorrt-llm", "sglang"}:
        model = rest[0] if rest and not rest[0].startswith("-") else ""
    port = options.get("port", options.get("p", "") if engine == "tgi" else "")
    if not port and engine == "tgi" and environ:
        port = environ.get("PORT", "")
    return Recognised(
        engine, "" if host in _EVERYWHERE else host, port_of(port), model[:200], _role(options)
    )


def recognise_command(command: Sequence[str]) -> Recognised | None:
    """Return what a container's command starts, also where a shell runs it."""
    found = recognise(command)
    if found is not None or not command or _name(command[0]) not in _SHELLS:
        return found
    for script in command[1:]:
        for line in script.replace("\\\n", " ").splitlines()[:MAX_WORDS]:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            for start, word in enumerate(words):
                if _name(word) in _PROGRAMS or _PYTHON.fullmatch(_name(word)):
                    found = recognise(words[start:])
                    if found is not None:
                        return found
    return None


def _engine(words: list[str]) -> tuple[str, list[str]]:
    """Return the engine and the words after what names it; nothing when there is none."""
    if not words:
        return "", []
    if _PYTHON.fullmatch(_name(words[0])):
        return _of_python(words[1:])
    return _of_program(words)


def _of_python(words: list[str]) -> tuple[str, list[str]]:
    while words and words[0].startswith("-"):
        if words[0] == "-m" and len(words) > 1:
            engine = _MODULES.get(words[1], "")
            rest = words[2:]
            return engine, rest[1:] if engine and rest[:1] == ["serve"] else rest
        words = words[2:] if words[0] in {"-X", "-W"} else words[1:]
    return _of_program(words) if words else ("", [])


def _of_program(words: list[str]) -> tuple[str, list[str]]:
    name = _name(words[0])
    engine, rest = _PROGRAMS.get(name, ""), words[1:]
    verb = _VERBS.get(name)
    if verb is not None:
        return (engine, rest[1:]) if rest[:1] == [verb] else ("", [])
    if engine == "tensorrt-llm":
        if rest and rest[0] in _NOT_SERVERS:
            return "", []
        rest = rest[1:] if rest[:1] == ["serve"] else rest
    return engine, rest


def _name(word: str) -> str:
    return word.rpartition("/")[2].removeprefix("-")


def _options(words: Sequence[str]) -> dict[str, str]:
    """Return options by name, dashes for underscores; a flag without a value is empty."""
    options: dict[str, str] = {}
    for place, word in enumerate(words):
        if not word.startswith("-") or word == "-":
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            following = words[place + 1] if place + 1 < len(words) else "-"
            value = "" if following.startswith("-") else following
        options[name.replace("_", "-")] = value
    return options


def _first(options: Mapping[str, str], *names: str) -> str:
    return next((options[name] for name in names if options.get(name)), "")


def _role(options: Mapping[str, str]) -> Role:
    transfer = options.get("kv-transfer-config", "")
    if transfer:
        try:
            told = json.loads(transfer)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict):
            return role_of(str(told.get("kv_role", ""))) or Role.AGGREGATED
    dotted = options.get("kv-transfer-config.kv-role", "")
    mode = options.get("disaggregation-mode", "") or options.get("server-role", "")
    return role_of(dotted or mode) or Role.AGGREGATED
