"""``target: learn``: the largest tokens/s per instance at which the SLO held, and how sure that is.

Once in a window the mean rate of each role and GPU type is noted: as held when every promise was kept,
as broken when the role's own was not. The target is what several windows have reached (``windows``),
below what broke several times. It is never more than was seen: where no window came near the limit it
is a lower bound, and is called so.

Nothing acts on it. A role that learns keeps its service advisory until a person writes the number into
the document; ``explain`` tells the line. A target in force is remembered with the make of engine it was
set for, and is called stale when that changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.learning import Held, Learned, LearningMemory, Mark
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.latency import Kind
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from heteroscale_coordinator.core.spec.learning import LearningSpec
from heteroscale_coordinator.core.spec.roles import UNLEARNED

MAX_LEARNED = 12
"""Records of one service; the one not seen for longest goes."""
MAX_HELD = 16
MAX_BROKEN = 3
"""So many broken windows at a rate are no chance any more."""
CLOSE = 1.25
"""A rate that broke within this factor of the target shows where the limit is."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A target as far as it was seen, in tokens/s of one instance, rounded down."""

    target: float
    sure: bool
    """The limit was seen; else it is a lower bound."""
    why: str


def estimate(seen: Learned, rules: LearningSpec) -> Estimate | None:
    """Return what was learned; None until enough windows agree."""
    limit = seen.broken[-1] if len(seen.broken) >= MAX_BROKEN else math.inf
    held = [one for one in seen.held if one.rate < limit]
    if len(held) < rules.windows:
        return None
    best = held[: rules.windows]
    target, share = best[-1].rate, max(one.share for one in best)
    told = f"reached in {rules.windows} of {seen.windows} windows with latency at {share:.0%} of its SLO"
    if limit <= CLOSE * target:
        return Estimate(_down(target), sure=True, why=f"{told}; {limit:.0f} tok/s broke it")
    if share >= rules.near:
        return Estimate(_down(target), sure=True, why=f"{told}, near the limit")
    return Estimate(
        _down(target), sure=False, why=f"{told}: a lower bound, its limit was never seen"
    )


def _down(rate: float) -> float:
    """Return ``rate`` to three digits, never more than was seen."""
    unit = 10.0 ** max(0, math.floor(math.log10(rate)) - 2) if rate > 0 else 1.0
    return math.floor(rate / unit) * unit or rate


# ---- what is in force ------------------------------------------------------------------------


def in_force(spec: ServiceSpec, memory: LearningMemory) -> ServiceSpec:
    """Return the specification by which the laws count: what is learned so far where one learns."""
    if not spec.learning:
        return spec
    roles = dict(spec.roles)
    for role in spec.learning:
        found = targets(memory, role, spec.policy.learning)
        target = {gpu: one.target for gpu, one in found.items()} or UNLEARNED
        roles[role] = roles[role].model_copy(update={"target": target})
    return spec.model_copy(update={"roles": roles})


def targets(memory: LearningMemory, role: Role, rules: LearningSpec) -> dict[str, Estimate]:
    """Return what was learned of each GPU type, at the class of context that was seen most."""
    best: dict[str, tuple[int, Estimate]] = {}
    for one in memory.learned.values():
        found = estimate(one, rules) if one.role is role else None
        if found is not None and one.windows > best.get(one.gpu_type, (0, found))[0]:
            best[one.gpu_type] = (one.windows, found)
    return {gpu: found for gpu, (_, found) in sorted(best.items())}


# ---- looking ---------------------------------------------------------------------------------


def learn(scene: Scene, *, heard: bool) -> LearningMemory:
    """Return the memory with this window noted, once in a window."""
    memory, rules = _marked(scene), scene.policy.learning
    learns = rules.enabled and (scene.spec.advisory or scene.view.learning)
    if not learns or not heard or scene.now - memory.looked_at < rules.window:
        return memory
    learned = dict(memory.learned)
    kept = all(one.share is not None and one.share <= 1.0 for one in scene.latencies)
    for role in scene.spec.roles:
        for gpu, engines in _by_type(scene, role).items():
            if (found := _observation(scene, role, engines)) is not None:
                rate, share, context = found
                # A target is what is multiplied by the factor of the day's lengths, so divide by it.
                rate /= scene.signals.lengths[role].factor
                key = f"{role.value}/{gpu}/{context}"
                make = scene.view.makes.get(role, "")
                before = learned.get(key)
                if before is None or before.make != make:
                    before = Learned(role, gpu, context, make)
                learned[key] = _noted(before, Held(rate, share), kept=kept, at=scene.now)
    newest = sorted(learned.items(), key=lambda pair: (-pair[1].at, pair[0]))[:MAX_LEARNED]
    return replace(memory, learned=dict(sorted(newest)), looked_at=scene.now)


def _by_type(scene: Scene, role: Role) -> dict[str, list[Engine]]:
    found: dict[str, list[Engine]] = {}
    for engine in scene.signals.engines(role):
        if engine.carrying:
            found.setdefault(engine.member.instance.gpu_type, []).append(engine)
    return found


def _observation(
    scene: Scene, role: Role, engines: list[Engine]
) -> tuple[float, float, int] | None:
    """Return (tokens/s of one instance, latency ÷ SLO, class of context); None if any is unknown."""
    window, freshness = scene.policy.learning.window, scene.policy.freshness
    if not all(engine.reaches(window, freshness) for engine in engines):
        return None
    measure = signals.busy_rate(role, window)
    rates = [measure(engine) for engine in engines]
    known = [rate for rate in rates if rate is not None]
    share = _share(scene, role, engines)
    if len(known) < len(rates) or share is None or not sum(known):
        return None
    return sum(known) / len(known), share, _context(engines, window)


def _share(scene: Scene, role: Role, engines: list[Engine]) -> float | None:
    """Return the role's latency as a share of its SLO: TTFT at prefill, TBT at decode, or the worse."""
    slo, window = scene.spec.slo, scene.policy.learning.window
    kinds: list[tuple[Kind, float | None]] = []
    if role is not Role.DECODE:
        kinds.append(("ttft", slo.ttft))
    if role is not Role.PREFILL:
        kinds.append(("tbt", slo.tbt))
    shares = []
    for kind, promised in kinds:
        mean, _ = signals.mean_latency(engines, kind, window, window)
        if promised is not None and mean is not None:
            shares.append(mean / promised)
    return max(shares, default=None)


def _context(engines: Iterable[Engine], window: float) -> int:
    mean, _ = signals.quotient(engines, "prompt_tokens", "requests_finished", window)
    if mean is None or mean <= 0:
        return 0
    return int(2 ** max(0, math.ceil(math.log2(mean / 1000))))


def _noted(seen: Learned, one: Held, *, kept: bool, at: float) -> Learned:
    seen = replace(seen, windows=seen.windows + 1, at=at)
    if one.share > 1.0:
        return replace(seen, broken=tuple(sorted((*seen.broken, one.rate))[:MAX_BROKEN]))
    if not kept:
        # Another promise of the service is broken: this window says nothing of the role.
        return seen
    broken = seen.broken
    if len(broken) == MAX_BROKEN and one.rate >= broken[-1]:
        # It held where it is said to break: a kept window takes a broken one back.
        broken = broken[1:]
    limit = broken[-1] if len(broken) == MAX_BROKEN else math.inf
    held = sorted((h for h in (*seen.held, one) if h.rate < limit), reverse=True)
    return replace(seen, held=tuple(held[:MAX_HELD]), broken=broken)


# ---- stale -----------------------------------------------------------------------------------


def _marked(scene: Scene) -> LearningMemory:
    """Return the memory with targets in force marked, and those called stale that no longer fit."""
    memory = scene.memory.learning
    marks, stale = dict(memory.marks), {}
    for role, rules in scene.spec.roles.items():
        make, target = scene.view.makes.get(role, ""), repr(rules.target)
        if role in scene.view.learning:
            marks.pop(role, None)
            continue
        mark = marks.get(role)
        if make and (mark is None or mark.target != target or _tells_more(make, mark.make)):
            mark = marks[role] = Mark(target, make)
        why = list(_unfit(scene, role, rules, mark, make))
        if why:
            stale[role] = "; ".join(why)
            scene.inputs[f"target_stale_{role.value}"] = stale[role]
    gone = marks.keys() - scene.spec.roles.keys()
    kept = {role: mark for role, mark in marks.items() if role not in gone}
    return replace(memory, marks=kept, stale=stale)


def _tells_more(make: str, before: str) -> bool:
    """Return whether ``make`` is what was known, and versions that nobody had told."""
    return make != before and _unversioned(make) == before


def _no_news(make: str, before: str) -> bool:
    """Return whether ``make`` tells nothing that was not known: a version untold is no other version."""
    told = {engine for engine in _engines(make) if " " in engine}
    return told <= _engines(before) and _unversioned(make) == _unversioned(before)


def _engines(make: str) -> set[str]:
    return set(make[make.find("(") + 1 : make.find(")")].split(", "))


def _unversioned(make: str) -> str:
    """Return ``make`` with the engines' names alone between its brackets."""
    begin, end = make.find("("), make.find(")")
    names = sorted({engine.split(" ")[0] for engine in _engines(make)})
    return f"{make[:begin]}({', '.join(names)}{make[end:]}"


def _unfit(
    scene: Scene, role: Role, rules: RoleSpec, mark: Mark | None, make: str
) -> Iterator[str]:
    if mark is not None and make and not _no_news(make, mark.make):
        yield f"set for {mark.make}, and it is {make} now"
    if isinstance(rules.target, dict):
        there = {e.member.instance.gpu_type for e in scene.signals.engines(role) if e.carrying}
        if missing := sorted(there - rules.target.keys()):
            yield f"none is given for {', '.join(name or 'an unnamed GPU type' for name in missing)}"


# ---- in words --------------------------------------------------------------------------------


def told(spec: ServiceSpec, memory: LearningMemory) -> list[str]:
    """Return what was learned and what is stale, line by line, with the line to paste."""
    rules, lines = spec.policy.learning, list[str]()
    for role, why in memory.stale.items():
        lines.append(f"STALE: the target of {role.value}: {why}: learn or measure it again")
    for one in memory.learned.values():
        if one.role in spec.roles and (spec.advisory or one.role in spec.learning):
            lines.append(f"{_where(one)}: {_found(one, rules)}")
    for role in spec.roles:
        found = targets(memory, role, rules)
        if found and (spec.advisory or role in spec.learning):
            lines.append(
                f"to accept it, write and apply: roles.{role.value}.target: {_yaml(found)}"
            )
    for role in sorted(spec.learning):
        lines.append(
            f"{role.value} has `target: learn`: the service only advises until it is a number"
        )
        if not _promised(spec, role):
            lines.append(
                f"{role.value}: nothing can be learned without an SLO: set slo.ttft and slo.tbt"
            )
    return lines


def _where(one: Learned) -> str:
    context = f"prompts to {one.context}k tokens" if one.context else "prompts of unknown length"
    return f"{one.role.value} on {one.gpu_type or 'an unnamed GPU type'}, {context}"


def _found(one: Learned, rules: LearningSpec) -> str:
    found = estimate(one, rules)
    if found is None:
        return f"not known yet: {len(one.held)} of {rules.windows} windows held, {one.windows} seen"
    return f"{found.target:g} tok/s, {found.why}"


def _yaml(found: Mapping[str, Estimate]) -> str:
    if set(found) == {""}:
        return f"{found[''].target:g}"
    return "{" + ", ".join(f'"{gpu}": {one.target:g}' for gpu, one in found.items()) + "}"


def _promised(spec: ServiceSpec, role: Role) -> bool:
    needed = {Role.PREFILL: (spec.slo.ttft,), Role.DECODE: (spec.slo.tbt,)}
    return any(needed.get(role, (spec.slo.ttft, spec.slo.tbt)))
