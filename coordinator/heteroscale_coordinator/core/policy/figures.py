"""The figures that every decision is made of, as arithmetic: τ, S, Q, R, the ratio's limits, GPUs.

They are reckoned from the same terms as the stages use, and stored with the verdict, so that a
person can follow a decision from what was measured to what was done (``heteroscale explain``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.demand import Demand
from heteroscale_coordinator.core.policy.lengths import AtLength
from heteroscale_coordinator.core.policy.supply import Supply
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from heteroscale_coordinator.core.sums import MAX_FORMULA, Sum, reckon

_SHOWN_KINDS = 8
"""GPU types of one role that are named one by one; the others are one term."""


def figures(
    spec: ServiceSpec,
    demands: Mapping[Role, Demand],
    supplies: Mapping[Role, Supply],
    lengths: Mapping[Role, AtLength],
    learning: Collection[Role] = (),
) -> dict[str, Sum]:
    """Return the figures of every role by name; what is unknown is left out.

    ``Q``, ``S``, ``R`` of the sizing role are bare, those of another bear its name (``Q_prefill``);
    ``tau_decode_H20`` is the target that one instance of a GPU type is counted at, at the lengths of
    the requests (``at_prompt_decode``).
    """
    found: dict[str, Sum] = {}
    for role in spec.roles:
        if role is Role.FFN:
            continue  # it follows its attention: its limits are told below
        end = "" if role is spec.sizing_role else f"_{role.value}"
        supply, demand = supplies[role], demands[role]
        at = lengths[role]
        if at.sum is not None:
            found[f"at_prompt_{role.value}"] = at.sum
        found |= _targets(role, spec.roles[role], supply, at, learns=role in learning)
        found[f"S{end}"] = _supply(supply)
        if demand.sum is None:
            continue
        found[f"Q{end}"] = demand.sum
        if supply.total:
            found[f"R{end}"] = reckon("Q / S", Q=demand.sum.value, S=supply.total)
    return found | _limits(spec, {role: supply.count for role, supply in supplies.items()})


def _targets(
    role: Role, rules: RoleSpec, supply: Supply, at: AtLength, *, learns: bool
) -> dict[str, Sum]:
    """Return τ of each GPU type that is present, and why it is that."""
    found = {}
    for (gpu, tau), name in _names(supply).items():
        line = _target(rules, gpu, tau) if at.sum is None else _target_at(rules, gpu, at)
        if learns:
            known = isinstance(rules.target, dict) and gpu in rules.target
            note = "learned so far" if known else "being learned, and not known yet: a guess"
            line = replace(line, note=note)
        found[f"tau_{role.value}_{name}"] = line
    return found


def _target(rules: RoleSpec, gpu: str, tau: float) -> Sum:
    given = rules.target
    if isinstance(given, dict) and gpu not in given:
        names = [_identifier(name) for name in given]
        formula = f"({' + '.join(names)}) / {len(names)}"
        told = dict(zip(names, given.values(), strict=True))
        note = f"no target is given for {gpu or 'an unnamed GPU type'}: the mean of those given"
        if len(told) == len(given) and len(formula) <= MAX_FORMULA:
            mean = reckon(formula, "tok/s", note, **told)
            if mean.value == tau:
                return mean
        return reckon("mean_of_given", "tok/s", note, mean_of_given=tau)
    note = f"given for {gpu}" if isinstance(given, dict) else "one number for every GPU type"
    return reckon("given", "tok/s", note, given=tau)


def _target_at(rules: RoleSpec, gpu: str, at: AtLength) -> Sum:
    """Return τ as what it is at the lengths that were tested, and the factor of those of the day."""
    terms = {"tested": rules.target_of(gpu), "at_prompt": at.factor}
    return reckon("tested * at_prompt", "tok/s", "at the lengths of the requests", **terms)


def _supply(supply: Supply) -> Sum:
    """Return S as a sum over GPU types (the stages add instance by instance: the last bit may differ)."""
    terms: dict[str, float] = {}
    parts = []
    names = list(_names(supply).items())
    for (gpu, tau), name in names[:_SHOWN_KINDS]:
        terms |= {f"n_{name}": supply.kinds[gpu, tau], f"tau_{name}": tau}
        parts.append(f"n_{name} * tau_{name}")
    if names[_SHOWN_KINDS:]:
        terms["others"] = sum(supply.kinds[kind] * kind[1] for kind, _ in names[_SHOWN_KINDS:])
        parts.append("others")
    formula = " + ".join(parts)
    if len(formula) > MAX_FORMULA:
        return reckon("supply", "tok/s", "too many GPU types to write out", supply=supply.total)
    return reckon(formula or "0", "tok/s", "in service and starting", **terms)


def _limits(spec: ServiceSpec, present: Mapping[Role, int]) -> dict[str, Sum]:
    """Return each ratio's limits of its followers beside the lead that is present, and the GPUs held."""
    found = {}
    for follower, lead, band in ratio.pairs_of(spec):
        # One letter as everywhere: D is decode, P prefill (of a split one, its attention).
        letter, count = lead.value[0].upper(), present[lead]
        terms = {"min": band.min, letter: count, "slack": 1e-9}
        low = reckon(f"max(1, ceil(min * {letter} - slack))", **terms)
        found[f"{follower.value}_least"] = low
        terms = {"least": low.value, "max_": band.max, letter: count, "slack": 1e-9}
        most = f"max(least, floor(max_ * {letter} + slack))"
        found[f"{follower.value}_most"] = reckon(most, **terms)
    held: dict[str, float] = {}
    for role, count in present.items():
        rules = spec.roles[role]
        held |= {f"n_{role.value}": count, f"gpus_{role.value}": rules.gpus * rules.ranks}
    formula = " + ".join(f"n_{role.value} * gpus_{role.value}" for role in present)
    if spec.max_gpus is not None:
        found["gpus_left"] = reckon(f"max_gpus - ({formula})", max_gpus=spec.max_gpus, **held)
    return found


def _names(supply: Supply) -> dict[tuple[str, float], str]:
    """Return a name of letters for each (GPU type, τ): types with the most instances first."""
    order = sorted(supply.kinds, key=lambda kind: (-supply.kinds[kind], kind))
    names: dict[tuple[str, float], str] = {}
    for kind in order:
        name = stem = _identifier(kind[0])
        number = 1
        while name in names.values():
            number += 1
            name = f"{stem}_{number}"
        names[kind] = name
    return names


def _identifier(gpu: str) -> str:
    """Return a GPU type as a term may be called: ``NVIDIA H20`` is ``NVIDIA_H20``."""
    kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in gpu)
    return kept if kept[:1].isalpha() else f"gpu{kept and '_'}{kept}"
