"""The agent's values ↔ the wire. The only room here, with ``link``, that knows both."""

from __future__ import annotations

from heteroscale_agent.wire.facts import (
    HISTORY_SPACING,
    event,
    hello,
    inventory_message,
    result,
    status,
    thin,
)
from heteroscale_agent.wire.orders import WireError, command
from heteroscale_agent.wire.readings import report

__all__ = [
    "HISTORY_SPACING",
    "WireError",
    "command",
    "event",
    "hello",
    "inventory_message",
    "report",
    "result",
    "status",
    "thin",
]
