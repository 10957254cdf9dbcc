"""Supply: what the instances of a role should carry, ``S = Σ τ`` over in service and starting.

Silent instances still count; withdrawn and draining ones do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_coordinator.core.model import counts_as_supply
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Supply:
    """The supply of one role, tokens/s."""

    targets: tuple[float, ...]
    """τ of every instance counted, smallest first."""
    carrying: int
    """How many of them carry traffic already."""
    next_target: float
    """τ of the instance that a scale-out would add: of the preferred GPU type."""
    text: str
    kinds: Mapping[tuple[str, float], int] = field(default_factory=dict)
    """(GPU type, τ) to how many of it are counted."""

    @property
    def count(self) -> int:
        """Instances counted."""
        return len(self.targets)

    @property
    def total(self) -> float:
        """S in tokens/s."""
        return sum(self.targets)

    def least(self, count: int) -> float:
        """Return what ``count`` instances carry at least: the strongest are assumed to leave."""
        return sum(self.targets[:count])


def supply_of(
    role: Role, engines: Sequence[Engine], spec: ServiceSpec, factor: float = 1.0
) -> Supply:
    """Return the supply of ``role``; ``factor`` is what the engines' targets are multiplied by."""
    counted = [engine for engine in engines if counts_as_supply(engine.member.instance)]
    targets = tuple(sorted(engine.target for engine in counted))
    carrying = sum(engine.carrying for engine in counted)
    kinds = _kinds(counted)
    return Supply(
        targets, carrying, _next_target(role, targets, spec, factor), _text(counted, kinds), kinds
    )


def _kinds(counted: Sequence[Engine]) -> dict[tuple[str, float], int]:
    return dict(Counter((e.member.instance.gpu_type, e.target) for e in counted))


def _next_target(role: Role, targets: tuple[float, ...], spec: ServiceSpec, factor: float) -> float:
    rules = spec.roles[role]
    if rules.gpu_types or not targets or not isinstance(rules.target, dict):
        return rules.target_of(rules.gpu_types[0] if rules.gpu_types else "") * factor
    return sum(targets) / len(targets)


def _text(counted: Sequence[Engine], kinds: Mapping[tuple[str, float], int]) -> str:
    parts = [f"{n} × {tau:g} {gpu}".rstrip() for (gpu, tau), n in sorted(kinds.items())]
    starting = sum(engine.member.starting for engine in counted)
    pending = f", {starting} of them starting" if starting else ""
    total = sum(engine.target for engine in counted)
    return f"{total:.1f} tok/s = {' + '.join(parts) or '0'}{pending}"


def worst_type(
    role: Role, engines: Sequence[Engine], spec: ServiceSpec
) -> tuple[str, float] | None:
    """Return (GPU type, its own R) of the type that serves most for its target; None if only one.

    Instances of every type that start soon will take their share of its load, so R is what it will
    be once they serve. The lower of the short and the long window counts: an imbalance that lasts,
    not noise.
    """
    groups: dict[str, list[Engine]] = {}
    for engine in engines:
        if engine.carrying:
            groups.setdefault(engine.member.instance.gpu_type, []).append(engine)
    if len(groups) < 2:  # noqa: PLR2004 - the only type is the whole
        return None
    carrying = sum(len(group) for group in groups.values())
    starting = sum(engine.member.starting for engine in engines)
    share = carrying / (carrying + starting)
    loads = [
        (gpu, share * load) for gpu, group in groups.items() if (load := _load(role, group, spec))
    ]
    return max(loads, key=lambda pair: pair[1], default=None)


def _load(role: Role, group: Sequence[Engine], spec: ServiceSpec) -> float | None:
    windows = (spec.policy.window_out, spec.policy.window_in)
    rates = [signals.total(group, signals.busy_rate(role, length)) for length in windows]
    known = [rate for rate in rates if rate is not None]
    capacity = sum(engine.target for engine in group)
    return min(known) / capacity if known else None
