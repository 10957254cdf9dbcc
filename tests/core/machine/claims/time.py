"""Cooldowns and steps: nothing hunts, nothing compounds, what is pending counts."""

from __future__ import annotations

import math

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action, Decision, Service
from tests.core.machine.claims.facts import (
    STARTING,
    Ledger,
    acted,
    instances,
    present_before,
    supplies,
)
from tests.core.machine.unruly import Turn

NO_LAW = frozenset({"bounds", "wanted", "schedule"})
"""Not reversals: bounds win at once, and what people or the clock want is no change of a law's mind."""
LEAST_STEPS = 3
"""Steps of the guard that a small count may take although they more than double it (docs/policy.md)."""


def nothing_is_withdrawn_inside_the_cooldown(turn: Turn, ledger: Ledger) -> None:
    """By a law: the newest change of any direction is given its time."""
    for service, decision in acted(turn):
        last = max(
            (at for key, at in ledger.changed_at.items() if key[0] == service.name), default=None
        )
        if (
            decision.action is Action.SCALE_IN
            and decision.bound_by not in NO_LAW
            and last is not None
        ):
            lasted, least = turn.now - last, service.spec.policy.cooldown_in
            why = f"[{decision.bound_by}] {decision.reason}"
            assert lasted >= least, f"{lasted:g} s after the last change of {least:g} s: {why}"


def demand_scales_out_once_a_cooldown(turn: Turn, ledger: Ledger) -> None:
    """The guard has a pace of its own, and what is missing of the wanted counts needs none."""
    for service, decision in acted(turn):
        last = ledger.changed_at.get((service.name, "demand out"))
        if ledger.kind(decision) == "demand out" and last is not None:
            lasted, least = turn.now - last, service.spec.policy.cooldown_out
            why = f"[{decision.bound_by}] {decision.reason}"
            assert lasted >= least, f"{lasted:g} s after the last of {least:g} s at least: {why}"


def a_breach_adds_at_most_what_it_began_with(turn: Turn, _: Ledger) -> None:
    """Or a few steps, where few served. Steps are shares of the count when it began."""
    for service, decision in acted(turn):
        breach = service.memory.breach
        if decision.action is not Action.SCALE_OUT or breach is None:
            continue
        if not decision.reason.lower().startswith("in breach"):
            continue
        # The role that it raised; the other may have come along, as the ratio asks.
        raised = next(iter(breach.given))
        began = breach.counts.get(raised, 0)
        # What is remembered of a prefill that is split is its attention's.
        role = raised if raised in service.spec.roles else Role.ATTENTION
        share = max(tier.step for tier in service.spec.policy.guard.tiers)
        size = max(1, math.floor(began * share + 1e-9))
        after = present_before(turn, service)[role] + decision.delta.get(role, 0)
        most = max(2 * began, began + LEAST_STEPS * size)
        assert after <= most, f"{after} {role} after a step, {began} when the breach began"
        assert decision.delta.get(role, 0) <= size, (
            f"{decision.delta.get(role, 0)} {role} at once, a step is {size}"
        )


def pending_instances_are_counted(turn: Turn, _: Ledger) -> None:
    """A scale-out by demand ends with no more than one instance beyond what demand asks for."""
    for service, decision in acted(turn):
        if decision.action is not Action.SCALE_OUT or decision.bound_by != "demand":
            continue
        role = service.spec.sizing_role
        asked = _signal(decision, f"{role.value}_demand")
        pending = [
            i for i in instances(turn, service.name) if i.state in STARTING and i.role is role
        ]
        if asked is None or role not in decision.delta or not _is_led_by_demand(service):
            continue
        after = len([i for i in instances(turn, service.name) if supplies(i) and i.role is role])
        factor = decision.sums.get(f"at_prompt_{role.value}")
        target = service.spec.roles[role].target_of("") * (factor.value if factor else 1.0)
        needed = math.ceil(asked / target) + 1
        text = f"{after} {role} ({len(pending)} starting) for {asked:.0f} tok/s, {needed} would do"
        assert after <= max(needed, _least_for_prefill(turn, service)), text


def _is_led_by_demand(service: Service) -> bool:
    return isinstance(service.spec.roles[service.spec.sizing_role].target, float)


def _least_for_prefill(turn: Turn, service: Service) -> int:
    """Return the decode instances that the present prefill needs beside it."""
    takes = (Role.PREFILL, Role.ATTENTION)
    prefill = [i for i in instances(turn, service.name) if supplies(i) and i.role in takes]
    return math.ceil(len(prefill) / service.spec.ratio.max) if prefill else 0


def _signal(decision: Decision, name: str) -> float | None:
    return next((one.value for one in decision.signals if one.name == name), None)


TIME = (
    nothing_is_withdrawn_inside_the_cooldown,
    demand_scales_out_once_a_cooldown,
    a_breach_adds_at_most_what_it_began_with,
    pending_instances_are_counted,
)
