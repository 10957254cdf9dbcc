"""Services with a schedule, and what is made of it at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.schedule import Plan, plan_of
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.zones import resolve
from tests.core.policy.build import (
    D,
    P,
    decoding,
    many,
    prefilling,
    spec_of,
    view_of,
)

MONDAY = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
"""Midnight in UTC."""
ZONES = {name: resolve(name, MONDAY) for name in ("UTC", "Europe/Berlin")}
NOON = MONDAY + 12 * 3600.0


def office(**changes: Any) -> dict[str, Any]:
    """From 8 to 19 on weekdays."""
    return {"name": "office", "start": "0 8 * * mon-fri", "end": "0 19 * * mon-fri", **changes}


def scheduled(*windows: dict[str, Any], zone: str = "UTC", **changes: Any) -> ServiceSpec:
    schedule = {"timeZone": zone, "windows": list(windows)}
    return spec_of(**{"decode": (2, 32), **changes}, schedule=schedule)


def plan(spec: ServiceSpec, now: float, ahead: float = 0.0, **present: int) -> Plan:
    counts = {Role(role): n for role, n in present.items()}
    found = plan_of(spec, ZONES, counts, now, ahead)
    assert found is not None
    return found


def verdict(
    spec: ServiceSpec, *members: Member, now: float = NOON, memory: PolicyMemory | None = None
) -> Verdict:
    view = view_of(spec, *members, now=now, zones=ZONES)
    known = memory or PolicyMemory(wanted=view.present())
    return decide(replace(view, memory=known))


def calm(prefill: int, decode: int, now: float = NOON, share: float = 0.9) -> tuple[Member, ...]:
    """Members that carry ``share`` of what they should."""
    return (
        *many(prefill, P, prefilling(5000 * share), now=now),
        *many(decode, D, decoding(1000 * share), now=now),
    )


# ---- what a window makes of the bounds ----------------------------------------------------------
