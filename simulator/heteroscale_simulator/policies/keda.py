"""KEDA: it reads a metric every 30 s, and hands it to an HPA as an external total.

⌈total ÷ target⌉, the rest is the HPA's. Its cooldown of 300 s is for going to none, which a role of a
disaggregated service never does.
"""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.hpa import Hpa, offered
from heteroscale_simulator.policies.port import Seen

POLLING = 30.0
"""Seconds from reading to reading."""


class Keda(Hpa):
    """An HPA for each role that sees every other value of the same metric."""

    name = "keda"

    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds, self._polled)
        self._read: dict[Role, tuple[float, float | None]] = {}

    def _polled(self, seen: Seen, role: Role) -> float | None:
        at, value = self._read.get(role, (-POLLING, None))
        if seen.now - at >= POLLING:
            at, value = self._read[role] = seen.now, offered(seen, role)
        return value
