"""Ports for engines: drawn from the configured range, never one that is in use or spoken for."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from heteroscale_agent.config import PortRange


class NoPortsError(RuntimeError):
    """The range has fewer free ports than were asked for."""


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` now, on any address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def draw(
    ports: PortRange,
    count: int,
    taken: AbstractSet[int],
    *,
    rng: random.Random,
    last: AbstractSet[int] = frozenset(),
    free: Callable[[int], bool] = is_free,
) -> tuple[int, ...]:
    """Return ``count`` free ports of the range, counting on from a random one.

    Random, because several agents of one host may share a range. Ports of ``last`` only where there
    are no others: a port that was just given up may still stand in a router's list.

    Raises:
        NoPortsError: there are not enough.

    """
    size = ports.last - ports.first + 1
    start = rng.randrange(size)
    found: list[int] = []
    inorder = (ports.first + (start + step) % size for step in range(size))
    for port in sorted(inorder, key=lambda port: port in last):
        if port not in taken and free(port):
            found.append(port)
            if len(found) == count:
                return tuple(found)
    raise NoPortsError(f"no {count} free ports in {ports.first}-{ports.last}")
