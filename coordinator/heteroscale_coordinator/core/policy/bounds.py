"""Bounds always win: minimum, maximum, and the GPU budget, of every role, in every step."""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts, Instance
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.steps import step_in, step_out
from heteroscale_coordinator.core.spec import ServiceSpec


def gpus(counts: Counts, spec: ServiceSpec) -> int:
    """Return the GPUs that these counts hold."""
    return sum(n * spec.roles[role].gpus * spec.roles[role].ranks for role, n in counts.items())


def gpus_of(instance: Instance, spec: ServiceSpec) -> int:
    """Return the GPUs that one instance holds, also when its role is no longer in the spec."""
    if instance.role in spec.roles:
        return gpus({instance.role: 1}, spec)
    # A rank that never told its GPUs has some: every role has at least one for each rank.
    return sum(len(rank.gpu_indices) or 1 for rank in instance.ranks)


def within(counts: Counts, spec: ServiceSpec) -> bool:
    """Return whether no role is above its maximum and the whole inside the budget."""
    below = all(counts[role] <= rules.max for role, rules in spec.roles.items())
    return below and (spec.max_gpus is None or gpus(counts, spec) <= spec.max_gpus)


def starting_counts(spec: ServiceSpec) -> dict[Role, int]:
    """Return what a new service begins with: the minimum, with the short role raised to the ratio."""
    least = {role: rules.min for role, rules in spec.roles.items()}
    if Role.PREFILL not in least:
        return clamp(least, spec)
    pairs = ratio.pairs_of(spec)
    for pair in reversed(pairs):
        enough = max(least[pair.lead], ratio.decode_for(least[pair.follower], pair.band))
        least[pair.lead] = min(enough, spec.roles[pair.lead].max)
    for pair in pairs:
        least[pair.follower] = max(least[pair.follower], pair.limits(least).low)
    return clamp(least, spec)


def clamp(counts: Counts, spec: ServiceSpec) -> dict[Role, int]:
    """Return the nearest counts inside all bounds; the ratio is kept where the bounds leave room."""
    fitted = {
        role: min(max(counts.get(role, 0), rules.min), rules.max)
        for role, rules in spec.roles.items()
    }
    if fitted != {role: counts.get(role, 0) for role in spec.roles}:
        fitted = _toward_ratio(fitted, spec)
    while spec.max_gpus is not None and gpus(fitted, spec) > spec.max_gpus:
        fitted[_first_to_shrink(fitted, spec)] -= 1
    return fitted


def _toward_ratio(counts: dict[Role, int], spec: ServiceSpec) -> dict[Role, int]:
    fitted = dict(counts)
    for pair in ratio.pairs_of(spec):
        rules = spec.roles[pair.follower]
        wish = ratio.prefill_for(fitted[pair.lead], fitted[pair.follower], pair.band)
        fitted[pair.follower] = min(max(wish, rules.min), rules.max)
    return fitted


def _first_to_shrink(counts: dict[Role, int], spec: ServiceSpec) -> Role:
    """Return the role whose loss leaves the ratios nearest to their bands; never one at its minimum."""
    free = [role for role, rules in spec.roles.items() if counts[role] > rules.min]
    if Role.PREFILL not in counts or len(free) == 1:
        return free[0]

    def outside(role: Role) -> float:
        after = {**counts, role: counts[role] - 1}
        return sum(
            ratio.distance(after[pair.follower], after[pair.lead], pair.band)
            for pair in ratio.pairs_of(spec)
        )

    return min(free, key=lambda role: (outside(role), role is not spec.sizing_role))


def fit_out(present: Counts, wish: Counts, spec: ServiceSpec, held: int = 0) -> dict[Role, int]:
    """Return the largest growth from ``present`` toward ``wish`` inside bounds and ratio.

    No role shrinks. Equal to ``present`` when nothing fits. For prefill and decode the sizing role
    is tried from its wish downward; prefill is then as near to its wish as limits, maximum and
    budget leave; where it was short of the ratio already, one step nearer (``_gently``). Ffn goes along
    with its attention, and where it has no room there is less of that. ``held`` GPUs belong to
    instances on their way out, and are still paid for.
    """
    start = {role: present.get(role, 0) for role in spec.roles}
    if Role.PREFILL not in start:
        role = spec.sizing_role
        count = min(wish[role], _room(role, {}, spec, held))
        return {role: max(count, start[role])}
    for decode in range(max(wish[Role.DECODE], start[Role.DECODE]), start[Role.DECODE] - 1, -1):
        best = ratio.prefill_for(decode, wish[Role.PREFILL], spec.ratio)
        most = _room(Role.PREFILL, {Role.DECODE: decode}, spec, held)
        lead, *inner = ratio.pairs_of(spec)
        gentle = _gently(start, decode, lead, spec)
        prefill = max(min(best, most, gentle), start[Role.PREFILL])
        after = {Role.PREFILL: prefill, Role.DECODE: decode}
        for pair in inner:
            after = _with_more(start, after, wish, pair, spec, held=held)
        if after != start and _may_grow(start, after, spec, held):
            return after
    return start


def _with_more(
    start: Counts, after: Counts, wish: Counts, pair: ratio.Pair, spec: ServiceSpec, *, held: int
) -> dict[Role, int]:
    """Return ``after`` with the followers of a pair, and no more of the lead than they have room for."""
    role, now = pair.follower, start[pair.follower]
    wished = max(wish.get(role, now), now)
    for count in range(after[pair.lead], start[pair.lead] - 1, -1):
        found = {**after, pair.lead: count}
        best = ratio.prefill_for(count, wished, pair.band)
        most = min(best, _room(role, found, spec, held), _gently(start, count, pair, spec))
        found[role] = max(most, now)
        if ratio.permitted((now, start[pair.lead]), (found[role], count), pair.band):
            return found
    return {**after, pair.lead: start[pair.lead], role: now}


def with_followers(wish: Counts, spec: ServiceSpec) -> dict[Role, int]:
    """Return a wish with the ffn that goes along with its attention, where prefill is split."""
    found = dict(wish)
    for pair in ratio.pairs_of(spec)[1:]:
        found[pair.follower] = max(found.get(pair.follower, 0), pair.limits(found).low)
    return found


def smaller_steps(present: Counts, delta: Counts, spec: ServiceSpec) -> list[dict[Role, int]]:
    """Return smaller steps than ``delta``, the larger first, each permitted by ratio and bounds.

    A half, a quarter, and one of each role: a step that has no place as a whole may have one in part.
    """
    found: list[dict[Role, int]] = []
    for share in (0.5, 0.25, 0.0):
        less = {role: max(1, int(n * share)) for role, n in delta.items() if n > 0}
        wish = {role: n + less.get(role, 0) for role, n in present.items()}
        after = fit_out(present, wish, spec)
        step = {role: n - present[role] for role, n in after.items() if n > present[role]}
        inside = all(n <= delta.get(role, 0) for role, n in step.items())
        if step and inside and step not in found and step != dict(delta):
            found.append(step)
    return found


def _gently(start: Counts, lead: int, pair: ratio.Pair, spec: ServiceSpec) -> int:
    """Return the most followers of one step to ``lead``: the ratio's share of it, and a step.

    After a change of the ratio much may be missing. It comes in steps like any other growth.
    """
    count, now = start[pair.follower], pair.limits(start)
    then = ratio.prefill_limits(lead, pair.band)
    if count >= now.low:
        return max(then.high, count)
    return min(step_out(count, now.low, spec.policy.max_step_out) + then.low - now.low, then.high)


def _softly(start: Counts, lead: int, pair: ratio.Pair, spec: ServiceSpec) -> int:
    """Return the fewest followers that one step to ``lead`` leaves, where too many were there before.

    What strays from the ratio leaves by the dampened share of it, as any surplus does.
    """
    count, now = start[pair.follower], pair.limits(start)
    if count <= now.high:
        return 0
    then = ratio.prefill_limits(lead, pair.band)
    return step_in(count, now.high, spec.policy.dampening_in) - (now.high - then.high)


def _may_grow(start: Counts, after: Counts, spec: ServiceSpec, held: int) -> bool:
    below = all(n <= spec.roles[role].max for role, n in after.items() if n > start[role])
    paid = spec.max_gpus is None or gpus(after, spec) + held <= spec.max_gpus
    return below and paid and ratio.all_permitted(start, after, spec)


def _room(role: Role, others: Counts, spec: ServiceSpec, held: int) -> int:
    """Return the most instances of ``role`` that maximum and budget leave beside ``others``."""
    most = spec.roles[role].max
    if spec.max_gpus is None:
        return most
    each = spec.roles[role].gpus * spec.roles[role].ranks
    return min(most, (spec.max_gpus - held - gpus(others, spec)) // each)


def fit_in(present: Counts, wish: Counts, spec: ServiceSpec) -> dict[Role, int]:
    """Return the largest shrinking from ``present`` toward ``wish`` inside bounds and ratio.

    No role grows, none falls below its minimum. Equal to ``present`` when nothing is left to take.
    """
    start = {role: present.get(role, 0) for role in spec.roles}
    least = {role: min(rules.min, start[role]) for role, rules in spec.roles.items()}
    if Role.PREFILL not in start:
        role = spec.sizing_role
        return {role: min(max(wish[role], least[role]), start[role])}
    for decode in range(max(wish[Role.DECODE], least[Role.DECODE]), start[Role.DECODE] + 1):
        after = {Role.DECODE: decode}
        for pair in ratio.pairs_of(spec):
            role, now = pair.follower, start[pair.follower]
            best = ratio.prefill_for(after[pair.lead], wish.get(role, now), pair.band)
            best = max(best, _softly(start, after[pair.lead], pair, spec), least[role])
            after[role] = min(best, now)
        after = {role: after[role] for role in start}
        if after != start and ratio.all_permitted(start, after, spec):
            return after
    return start


def afford(present: Counts, more: Counts, spec: ServiceSpec, held: int) -> dict[Role, int]:
    """Return how much of ``more`` the GPU budget pays for beside ``present`` and ``held``."""
    bought = dict(more)
    if spec.max_gpus is None:
        return bought
    free = spec.max_gpus - held - gpus(present, spec)
    while bought and gpus(bought, spec) > free:
        largest = max(bought, key=lambda role: bought[role])
        bought[largest] -= 1
        bought = {role: n for role, n in bought.items() if n}
    return bought
