"""One HTTP GET of text, once a second next to every engine; see `heteroscale_agent.exchange`."""

from __future__ import annotations

import h11

from heteroscale_agent.exchange import ExchangeError, TooLargeError, exchange
from heteroscale_agent.names import NAMES, Names

MAX_BYTES = 8 * 1024 * 1024
"""A hundred times what the largest engine says."""

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

_OK = 200
_HEADERS = (("Accept", "text/plain; version=0.0.4"),)


class FetchError(Exception):
    """There was no answer, or not in time."""


class ContentError(FetchError):
    """There was an answer, and it is not what was asked for; ``status`` when that is why."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


async def get_text(
    url: str,
    *,
    deadline: float,
    max_bytes: int = MAX_BYTES,
    content_types: tuple[str, ...] = METRICS_TYPES,
    names: Names = NAMES,
) -> str:
    """Return the body of `url` as text, read whole within `deadline` seconds.

    Raises:
        FetchError: nobody answered, or the answer was not whole in time, or no HTTP.
        ContentError: the answer is too large, of another type, not UTF-8, or no 200.

    """
    try:
        _, body = await exchange(
            "GET",
            url,
            deadline=deadline,
            limit=max_bytes,
            headers=_HEADERS,
            judge=lambda response: _check(response, content_types),
            names=names,
        )
        return body.decode()
    except TooLargeError as error:
        raise ContentError(str(error)) from error
    except ExchangeError as error:
        raise FetchError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ContentError(f"not UTF-8: {error.reason}") from error


def _check(response: h11.Response, content_types: tuple[str, ...]) -> None:
    """Refuse an answer by its head, before its body costs anything."""
    headers = {
        bytes(name).decode("latin-1"): value.decode("latin-1") for name, value in response.headers
    }
    if response.status_code != _OK:
        raise ContentError(f"HTTP status {response.status_code}", response.status_code)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind not in content_types:
        raise ContentError(f"content type {kind[:80]!r}")
    if headers.get("content-encoding", "identity") != "identity":
        raise ContentError("compressed answer")
