"""Signals of a service, from the tracks of its engines."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale_coordinator.core.model import SignalValue
from heteroscale_coordinator.core.policy.view import ServiceView


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a service's load just now."""

    values: tuple[SignalValue, ...] = ()


def observe_signals(view: ServiceView) -> Signals:
    """Return the signals of the service."""
    return Signals()
