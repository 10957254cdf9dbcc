"""Which GPU type first: where a service leaves it open, the one that does its work for the least money.

Prefill is bound by compute and decode by bandwidth, so what a type is worth differs by role: a role's
own target per type says how much work it does there (heteroscale.md §7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite, nan

from heteroscale.words import Role
from heteroscale_coordinator.core.placement.values import Ask
from heteroscale_coordinator.core.spec import RoleSpec

_SECONDS = 3600.0
_TOKENS = 1e6


def cost_of(spec: RoleSpec, gpu_type: str, price: float) -> float:
    """Return what a million tokens of a role cost on a GPU type at its target, in the price's currency.

    ``price`` is of one GPU-hour; the role's target is in tokens/s of one instance.
    """
    return price * spec.gpus * spec.ranks / (spec.target_of(gpu_type) * _SECONDS) * _TOKENS


def in_order(ask: Ask, kinds: Iterable[str]) -> tuple[Ask, str]:
    """Return the ask with GPU types by cost where its roles leave that open, and why in words.

    ``kinds``: the GPU types of the fleet; a role that names none takes any of them. A price
    that is no number is none; without any, nothing is known, and a role stays as it is.
    """
    known = sorted(set(kinds))
    roles: dict[Role, RoleSpec] = dict(ask.roles)
    said = []
    for role, spec in ask.roles.items():
        types = spec.gpu_types or tuple(known)
        is_open = not spec.gpu_types or spec.gpu_choice == "cheapest"
        costs = _costs(spec, types, ask.prices)
        if not is_open or not costs or ask.delta.get(role, 0) <= 0 or len(types) == 1:
            continue
        order = (*sorted(costs, key=lambda t: costs[t]), *(t for t in types if t not in costs))
        roles[role] = spec.model_copy(update={"gpu_types": order})
        said.append(f"{role} {', '.join(f'{t} {costs[t]:.3g}' for t in order if t in costs)}")
    if not said:
        return ask, ""
    return replace(ask, roles=roles), f"cheapest per million tokens first: {'; '.join(said)}"


def _costs(spec: RoleSpec, types: Iterable[str], prices: Mapping[str, float]) -> dict[str, float]:
    return {t: cost_of(spec, t, prices[t]) for t in types if isfinite(prices.get(t, nan))}
