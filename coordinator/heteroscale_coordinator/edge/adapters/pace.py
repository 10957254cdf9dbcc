"""How fast a driver looks, calls, retries and gives up. All in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """See the module."""

    look: float = 5.0
    """Between looks at a cluster that tells no changes."""
    look_watched: float = 30.0
    """Between whole looks at one that does: what a watch lost is put right by then."""
    tick: float = 1.0
    """Between rounds over leases, drains and heartbeats."""
    answer: float = 10.0
    """One call may take so long; then its answer is unknown."""
    first_retry: float = 0.5
    last_retry: float = 15.0
    patience: float = 10.0
    """Looks may fail so long before the cluster's nodes are told to be cut off."""
    failures: int = 5
    """Calls that fail in a row, after which only looks are tried until one succeeds."""
    at_once: int = 8
    """Orders that are with the cluster at one time."""
    echo: float = 30.0
    """What was ordered and done is believed so long, though the cluster does not show it yet."""
    doubt: float = 60.0
    """Most of a cluster vanishing in one look is not believed until it has been seen so long."""
    again: float = 10.0
    """Between tries to stop what the cluster keeps."""
