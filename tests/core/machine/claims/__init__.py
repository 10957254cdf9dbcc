"""Safety claims: each is a small function, named by what it says, that raises when it is not so.

A claim looks at one turn, with what the turns before left in the ``Ledger``. It states a rule in
terms of its own, never by calling the code that is to keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.core.machine.claims.bounds import BOUNDS
from tests.core.machine.claims.ends import AT_THE_END
from tests.core.machine.claims.facts import Ledger
from tests.core.machine.claims.orders import ORDERS
from tests.core.machine.claims.ratio import RATIO
from tests.core.machine.claims.seen import SEEN
from tests.core.machine.claims.subclusters import SUB_CLUSTERS
from tests.core.machine.claims.time import TIME
from tests.core.machine.claims.unknown import UNKNOWN
from tests.core.machine.unruly import Turn, UnrulyWorld

Claim = Callable[[Turn, Ledger], None]
CLAIMS: tuple[Claim, ...] = (*BOUNDS, *UNKNOWN, *RATIO, *TIME, *ORDERS, *SEEN, *SUB_CLUSTERS)


def check(turn: Turn, ledger: Ledger) -> None:
    """Hold one turn to every claim; the first that is broken is named."""
    for claim in CLAIMS:
        with named(claim.__name__):
            claim(turn, ledger)
    ledger.note(turn)


def check_the_end(world: UnrulyWorld) -> None:
    """Hold a world that has been quiet for long to what must have come to an end."""
    for claim in AT_THE_END:
        with named(claim.__name__):
            claim(world)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Name the claim that an assertion inside belongs to."""
    try:
        yield
    except AssertionError as broken:
        raise AssertionError(f"CLAIM BROKEN: {name.replace('_', ' ')}: {broken}") from broken
