"""The server's clock as this agent estimates it; two hosts' wall clocks are never compared."""

from __future__ import annotations


class LinkError(Exception):
    """The session ended; a new one is worth trying."""


class ServerClock:
    """Estimates the server's clock from stamped messages.

    A message is stamped when it leaves and read when it arrives, so each gives a lower bound of the
    offset; the highest of a session is the best.
    """

    def __init__(self) -> None:
        self._offset: float | None = None

    def stamp(self, server_time: float, received_at: float) -> None:
        """Take in a message's stamp and its local time of arrival."""
        offset = server_time - received_at
        self._offset = offset if self._offset is None else max(self._offset, offset)

    def local(self, server_time: float) -> float:
        """Return a server's moment on the local clock."""
        if self._offset is None:
            raise LinkError("the coordinator sent no server_time")
        return server_time - self._offset
