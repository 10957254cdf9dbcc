"""Backlog: what waits, without what is being answered already.

While an answer starts, requests go on piling up; they are the same need, not a new one. So each
instance that is starting counts as if it had served at its target since its launch was ordered: a
constant overload is answered once, however long a start takes. And a queue that what serves now works
off about as soon as more of it would is answered too.
"""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import PolicySpec


def unanswered(
    role: Role, engines: Sequence[Engine], policy: PolicySpec, length: float, offset: float = 0.0
) -> float:
    """Return the requests that waited at ``role`` all through the window, and that nothing answers."""
    waited = waited_at(engines, length, offset)
    if not waited:
        return 0.0
    tokens = answered(engines, offset)
    each = signals.tokens_per_request(engines, role, policy.window_in) if tokens else None
    return max(0.0, waited - tokens / each) if each else waited


def answered(engines: Sequence[Engine], offset: float = 0.0) -> float:
    """Return the tokens that what starts, or has lately begun to serve, is there to work off."""
    return sum(e.target * max(0.0, e.missed - offset) for e in engines)


def waited_at(engines: Sequence[Engine], length: float, offset: float = 0.0) -> float:
    """Return the requests that waited all through the window."""
    return signals.total(engines, signals.gauge_lowest("queued", length, offset)) or 0.0
