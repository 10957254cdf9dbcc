"""GETs of text, once a second next to every engine; see `heteroscale_agent.exchange`."""

from __future__ import annotations

from contextlib import closing

import h11

from heteroscale_agent.exchange import ExchangeError, Line, TooLargeError
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


class TextPage:
    """The metrics page of one URL, read again and again, over a connection that is kept if it can be."""

    def __init__(self, url: str, *, max_bytes: int = MAX_BYTES, names: Names = NAMES) -> None:
        """Prepare to read ``url``, of which more than ``max_bytes`` are refused."""
        self._line = Line(url, headers=_HEADERS, names=names)
        self._max_bytes = max_bytes

    @property
    def url(self) -> str:
        """Of the page."""
        return self._line.url

    async def get(self, deadline: float) -> str:
        """Return its text, read whole within ``deadline`` seconds.

        Raises:
            FetchError: nobody answered, or the answer was not whole in time, or no HTTP.
            ContentError: the answer is too large, of another type, not UTF-8, or no 200.

        """
        try:
            _, body = await self._line.get(deadline=deadline, limit=self._max_bytes, judge=_check)
            return body.decode()
        except TooLargeError as error:
            raise ContentError(str(error)) from error
        except ExchangeError as error:
            raise FetchError(str(error)) from error
        except UnicodeDecodeError as error:
            raise ContentError(f"not UTF-8: {error.reason}") from error

    def close(self) -> None:
        """Let go of the connection; the next reading makes another."""
        self._line.close()


async def get_text(
    url: str, *, deadline: float, max_bytes: int = MAX_BYTES, names: Names = NAMES
) -> str:
    """Return the text of ``url``, read once; see `TextPage.get`."""
    with closing(TextPage(url, max_bytes=max_bytes, names=names)) as page:
        return await page.get(deadline)


def _check(response: h11.Response) -> None:
    """Refuse an answer by its head, before its body costs anything."""
    headers = {
        bytes(name).decode("latin-1"): value.decode("latin-1") for name, value in response.headers
    }
    if response.status_code != _OK:
        raise ContentError(f"HTTP status {response.status_code}", response.status_code)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind not in METRICS_TYPES:
        raise ContentError(f"content type {kind[:80]!r}")
    if headers.get("content-encoding", "identity") != "identity":
        raise ContentError("compressed answer")
