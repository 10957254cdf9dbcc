"""How long KV transfer has been near its limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransferMemory:
    """Since when a limit of KV transfer has been passed, and since when it has not been any more."""

    since: float | None = None
    calm_since: float | None = None
