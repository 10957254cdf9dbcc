"""The story the demo tells with its traffic: calm, rise, lull, a second hump, fall.

Each phase ends when what it is there for has happened, or its time is up: so the second hump comes
while the withdrawn instances are under observation on a fast machine and on a slow one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_workbench.demo.recording import Recording

PEAK = 780.0
"""Output tokens per second at the top: about six decode instances' targets."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the story. ``level`` is a share of the peak, reached within ``ramp`` seconds."""

    name: str
    level: float
    ramp: float
    least: float
    """Seconds it lasts at least …"""
    most: float
    """… and at most."""
    told: Callable[[Recording, float], bool]
    """Whether what it is there for has happened since its start, a time of the recording."""


def story() -> Sequence[Phase]:
    """Return the phases in order."""
    return (
        Phase("calm", 0.20, 1.0, 6.0, 6.0, _always),
        Phase("rise", 1.00, 10.0, 14.0, 50.0, _grown),
        Phase("lull", 0.30, 3.0, 3.0, 60.0, _withdrawn),
        Phase("second hump", 1.15, 1.5, 9.0, 20.0, _reinstated),
        Phase("fall", 0.15, 3.0, 10.0, 75.0, _drained),
    )


def _always(_recording: Recording, _since: float) -> bool:
    return True


def _grown(recording: Recording, _since: float) -> bool:
    """Both roles in service at what the peak needs, and steady for three seconds."""
    recent = recording.samples[-6:]
    return bool(recent) and all(
        s.in_service(Role.DECODE) >= 5 and s.in_service(Role.PREFILL) >= 3  # noqa: PLR2004 - PEAK's
        for s in recent
    )


def _withdrawn(recording: Recording, since: float) -> bool:
    now = recording.samples[-1]
    out = now.prefill.get("withdrawn", 0) + now.decode.get("withdrawn", 0)
    return out > 0 and any(n.t >= since and n.action == "scale_in" for n in recording.notes)


def _reinstated(recording: Recording, since: float) -> bool:
    return any(n.t >= since and n.action == "reinstate" for n in recording.notes)


def _drained(recording: Recording, since: float) -> bool:
    """A scale-in was carried through and its instances have ended, in both roles."""
    done = [n for n in recording.notes if n.t >= since and n.action == "finish_scale_in"]
    if not done:
        return False
    now = recording.samples[-1]
    at_top = recording.peak(Role.PREFILL), recording.peak(Role.DECODE)
    busy = now.decode.get("draining", 0) + now.prefill.get("draining", 0)
    fewer = now.in_service(Role.PREFILL) < at_top[0] and now.in_service(Role.DECODE) < at_top[1]
    return fewer and not busy
