"""The bytes of an answer: OpenAI's completion and chat objects, whole or as server-sent events.

Every token is the same word, so the event of a token is made once per request and written many times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

WORD = " a"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """Makes the parts of one answer. ``created`` is Unix time in seconds."""

    chat: bool
    id: str
    model: str
    created: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens of the whole request."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def whole(self) -> dict[str, Any]:
        """Return the answer to a request that does not stream."""
        text = WORD * self.completion_tokens
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": "length"}
        name = "chat.completion" if self.chat else "text_completion"
        return {**self._head(name), "choices": [choice], "usage": self.usage}

    def opening(self) -> bytes:
        """Return what comes before the first token: the role in a chat, else nothing."""
        return self._event({"role": "assistant", "content": ""}, None) if self.chat else b""

    def token(self) -> bytes:
        """Return the event of any token but the last."""
        return self._token(None)

    def closing(self, *, include_usage: bool) -> bytes:
        """Return the last token with its finish reason, the usage if wished, and the end mark."""
        last = self._token("length")
        if include_usage:
            name = "chat.completion.chunk" if self.chat else "text_completion"
            last += _sse({**self._head(name), "choices": [], "usage": self.usage})
        return last + DONE

    def _token(self, finish: str | None) -> bytes:
        return self._event({"content": WORD} if self.chat else WORD, finish)

    def _event(self, said: Any, finish: str | None) -> bytes:
        part = {"delta": said} if self.chat else {"text": said}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
        name = "chat.completion.chunk" if self.chat else "text_completion"
        return _sse({**self._head(name), "choices": [choice]})

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.id, "object": name, "created": self.created, "model": self.model}


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk of HTTP/1.1's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_body(message: str, status: int) -> dict[str, Any]:
    """Return an error as OpenAI's API writes it."""
    kinds = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
