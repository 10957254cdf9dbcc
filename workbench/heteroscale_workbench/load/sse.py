"""Understands a stream of server-sent events without parsing each token's JSON.

Events end with a blank line, which JSON inside them cannot contain, so counting blank lines counts
events. Only the last few are looked into: there stand the finish reason, the usage and ``[DONE]``.
"""

from __future__ import annotations

import json
from typing import Any

KEPT = 4096
"""Bytes of the end of the stream kept: room for the last token, the usage and the end mark."""
_END = b"\n\n"


class EventScanner:
    """Counts events as bytes come in, however they are cut."""

    def __init__(self) -> None:
        self.events = 0
        self._tail = b""
        self._open = b""  # a newline at the end of the last piece may be half of a blank line

    def feed(self, data: bytes) -> int:
        """Take in bytes; return how many events ended with them."""
        text = self._open + data
        ended = text.count(_END)
        self._open = b"\n" if text.endswith(b"\n") and not text.endswith(_END) else b""
        self.events += ended
        self._tail = (self._tail + data)[-KEPT:]
        return ended

    def ending(self) -> Ending:
        """Return what the end of the stream says."""
        done, finish, usage, others = False, None, None, 0
        for event in self._tail.split(_END):
            data = event.strip().removeprefix(b"data:").strip()
            if data == b"[DONE]":
                done = True
                others += 1
                continue
            body = _json(data)
            usage = body.get("usage") or usage
            choices = body.get("choices")
            if choices == []:
                others += 1
            elif isinstance(choices, list) and isinstance(choices[0], dict):
                finish = choices[0].get("finish_reason") or finish
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return Ending(done, finish, tokens if isinstance(tokens, int) else None, others)


class Ending:
    """How a stream ended: the end mark, the finish reason, the tokens its usage counts."""

    __slots__ = ("done", "finish_reason", "tokens", "without_token")

    def __init__(
        self, done: bool, finish_reason: Any, tokens: int | None, without_token: int
    ) -> None:
        self.done = done
        self.finish_reason = finish_reason if isinstance(finish_reason, str) else None
        self.tokens = tokens
        self.without_token = without_token
        """Events at the end that carry no token: usage and end mark."""


def _json(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
