"""What a client asks for: the body of a completion or chat request, checked.

Tokens of a text prompt are its words (parts between white space): the simulation has no tokenizer.
Tokens of a prompt given as token ids are its ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heteroscale_workbench.engine_sim.job import Bootstrap, EngineError

DEFAULT_MAX_TOKENS = 16
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's body, understood."""

    prompt_tokens: int
    max_tokens: int
    stream: bool
    include_usage: bool
    rid: str | None
    bootstrap: Bootstrap | None


def read_body(body: Any, *, chat: bool) -> Asked:
    """Return what ``body`` asks for.

    Raises:
        EngineError: with status 400 and what is wrong.

    """
    if not isinstance(body, dict):
        raise EngineError("the body is a JSON object", 400)
    tokens = _chat_tokens(body.get("messages")) if chat else _prompt_tokens(body.get("prompt"))
    limit = body.get("max_tokens")
    if chat and limit is None:
        limit = body.get("max_completion_tokens")
    options = body.get("stream_options")
    if body.get("n", 1) not in (1, None):
        raise EngineError("only n = 1 is simulated", 400)
    rid = body.get("rid")
    return Asked(
        prompt_tokens=max(1, tokens),
        max_tokens=_positive("max_tokens", DEFAULT_MAX_TOKENS if limit is None else limit),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        rid=rid if isinstance(rid, str) else None,
        bootstrap=_bootstrap(body),
    )


def _prompt_tokens(prompt: Any) -> int:
    if isinstance(prompt, str):
        return len(prompt.split())
    if isinstance(prompt, list) and all(isinstance(part, int) for part in prompt):
        return len(prompt)
    if isinstance(prompt, list) and len(prompt) == 1:
        return _prompt_tokens(prompt[0])
    raise EngineError("prompt is one text, or one list of token ids", 400)


def _chat_tokens(messages: Any) -> int:
    if not isinstance(messages, list) or not messages:
        raise EngineError("messages is a list with at least one message", 400)
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        total += sum(len(text.split()) for text in texts if isinstance(text, str))
    return total


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise EngineError(f"{name} is a whole number of at least 1", 400)
    return value


def _bootstrap(body: Mapping[str, Any]) -> Bootstrap | None:
    room = body.get("bootstrap_room")
    if room is None:
        return None
    host, port = body.get("bootstrap_host"), body.get("bootstrap_port")
    if not (isinstance(room, int) and isinstance(host, str) and isinstance(port, int)):
        raise EngineError("bootstrap_host, _port and _room belong together", 400)
    if not 0 < port <= MAX_PORT:
        raise EngineError(f"bootstrap_port {port} is no port", 400)
    return Bootstrap(host, port, room)
