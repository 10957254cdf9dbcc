"""Safety claims: each is a small function, named by what it says, that raises when it is not so.

A claim looks at one turn, with what the turns before left in the ``Ledger``. It states a rule in
terms of its own, never by calling the code that is to keep it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.core.machine.claims.bounds import BOUNDS
from tests.core.machine.claims.facts import Ledger
from tests.core.machine.claims.orders import ORDERS
from tests.core.machine.unruly import Turn

Claim = Callable[[Turn, Ledger], None]
CLAIMS: tuple[Claim, ...] = (*BOUNDS, *ORDERS)


def check(turn: Turn, ledger: Ledger) -> None:
    """Hold one turn to every claim; the first that is broken is named."""
    for claim in CLAIMS:
        try:
            claim(turn, ledger)
        except AssertionError as broken:
            said = claim.__name__.replace("_", " ")
            raise AssertionError(f"CLAIM BROKEN: {said}: {broken}") from broken
    ledger.note(turn)
