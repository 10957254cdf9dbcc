"""Host names to addresses, so that a name server that hangs delays nobody but those who ask for it.

asyncio asks the C library in the threads that all of asyncio shares: a few names that hang would hold
up everything else that needs one of them, and the agent's end. Here every name is asked for in a
daemon thread of its own, never twice at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from heteroscale_agent.probes.worker import Worker

Lookup = Callable[[str], tuple[str, ...]]


class Names:
    """Finds addresses. Whoever waits brings a deadline; a lookup itself has none."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        """Ask ``lookup``, which may block; default: the system's resolver."""
        self._lookup = lookup or _ask
        self._asked: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of ``host``, best first; of an address, itself.

        Raises:
            OSError: the name is not known, or nobody could be asked.

        """
        if _is_address(host):
            return (host,)
        asked = self._asked.get(host)
        # A loop that has ended never hears of what it asked for.
        if asked is None or asked.get_loop() is not asyncio.get_running_loop():
            asked = self._ask(host)
        # Not awaited itself: one who gives up must not take the answer from the others.
        await asyncio.wait([asked])
        return asked.result()

    def _ask(self, host: str) -> asyncio.Future[tuple[str, ...]]:
        worker = Worker(f"name {host}")
        asked = self._asked[host] = worker.call(lambda: self._lookup(host))
        worker.close()
        asked.add_done_callback(lambda done: self._done(host, done))
        return asked

    def _done(self, host: str, asked: asyncio.Future[tuple[str, ...]]) -> None:
        if self._asked.get(host) is asked:
            del self._asked[host]
        if not asked.cancelled():
            asked.exception()  # all who waited may have given up: then it is nobody's


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ask(host: str) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


NAMES = Names()
"""The system's names; what is being asked for is known to the whole process."""
