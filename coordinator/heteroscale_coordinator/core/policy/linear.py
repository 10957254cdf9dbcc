"""The proportional law on any signal that grows in proportion to load (paper §3).

``R = Σ (reading ÷ target) ÷ count``: the sum over the instances that carry traffic (and what leaving
ones still do), the count of all that are supply, so that what is starting dilutes the mean and nothing
cascades. Where targets are given by GPU type, or types differ in load, the worst type counts. Steps,
cooldowns and consents are those of the throughput law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import ratio, signals
from heteroscale_coordinator.core.policy.claims import Floor, Need
from heteroscale_coordinator.core.policy.demand import steady_share
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.signals import Measure
from heteroscale_coordinator.core.policy.windows import Engine, Gauge
from heteroscale_coordinator.core.spec import SignalSpec


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a signal's target is used."""

    spec: SignalSpec
    load: float | None
    """R over supply; None is unknown."""
    worst: float
    """R of the GPU type that is used most, once what is starting serves; 0 where there is one type."""
    gpu: str = ""
    """That type."""

    @property
    def ratio(self) -> float | None:
        """The larger of the two; None is unknown."""
        return None if self.load is None else max(self.load, self.worst)

    @property
    def text(self) -> str:
        """In words."""
        if self.ratio is None:
            return f"signal {self.spec.signal} is unknown"
        on = f" on {self.gpu or 'an unnamed GPU type'}" if self.worst > (self.load or 0.0) else ""
        return f"signal {self.spec.signal}{on} is {100 * self.ratio:.0f} % of its target"


def signal_need(scene: Scene) -> Need | None:
    """Return what the signals that are above 1 + θ ask for; the other role follows by the ratio."""
    found: dict[Role, int] = {}
    why = []
    for use in uses(scene):
        if use.ratio is None or use.ratio <= 1 + scene.policy.tolerance_out:
            continue
        role, present = use.spec.role, scene.present[use.spec.role]
        needed = scene.reckon(
            f"needed_{use.spec.signal}",
            "ceil(present * load - 1e-9)",
            role.value,
            present=present,
            load=use.ratio,
        )
        found[role] = max(found.get(role, 0), int(needed), present + 1)
        why.append(f"{use.text}, above {100 * (1 + scene.policy.tolerance_out):.0f} %")
    if not found:
        return None
    return Need(_with_decode(scene, found), ", and ".join(why), "signals")


def signal_floor(scene: Scene) -> Floor | None:
    """Return the fewest that leave every signal at or below 1 − θ at its highest in the long window."""
    counts: dict[Role, int] = {}
    for spec in scene.policy.signals:
        role = spec.role
        counts[role] = max(counts.get(role, 0), _fewest(scene, spec))
    if not counts:
        return None
    names = ", ".join(spec.signal for spec in scene.policy.signals)
    return Floor("signals", counts, f"{names} at most {1 - scene.policy.tolerance_in:g} of target")


def is_low(scene: Scene) -> bool:
    """Return whether every signal is known and one of them below 1 − θ."""
    loads = [use.ratio for use in uses(scene)]
    known = [load for load in loads if load is not None]
    if not known or len(known) < len(loads):
        return False
    return min(known) < 1 - scene.policy.tolerance_in


def used(scene: Scene) -> dict[str, float]:
    """Return, by signal, how many instances' targets are used; what nobody tells is left out."""
    present = scene.present
    return {
        one.spec.signal: one.load * present[one.spec.role]
        for one in uses(scene)
        if one.load is not None
    }


def text_of(scene: Scene) -> str:
    """Return every signal beside its target, in words."""
    return ", ".join(use.text for use in uses(scene))


def unknown(scene: Scene) -> list[str]:
    """Return the signals that nobody tells."""
    return [use.spec.signal for use in uses(scene) if use.ratio is None]


def uses(scene: Scene) -> list[Use]:
    """Return how much of every signal's target is used, over the short window."""
    return [_use(scene, spec) for spec in scene.policy.signals]


def _use(scene: Scene, spec: SignalSpec) -> Use:
    role, present = spec.role, scene.present[spec.role]
    engines = scene.signals.engines(role)
    measure = measure_of(scene, spec, scene.policy.window_out)
    units = signals.total(engines, measure, size=lambda _: 1.0)
    if units is None or not present:
        return Use(spec, None, 0.0)
    load = scene.reckon(f"R_{spec.signal}", "used / present", "", used=units, present=present)
    gpu, worst = _worst_type(scene, spec, engines)
    return Use(spec, load, worst, gpu)


def _worst_type(scene: Scene, spec: SignalSpec, engines: Sequence[Engine]) -> tuple[str, float]:
    """Return the GPU type used most, and its R; the lower of both windows, for what lasts counts."""
    groups: dict[str, list[Engine]] = {}
    for engine in engines:
        if engine.carrying:
            groups.setdefault(engine.member.instance.gpu_type, []).append(engine)
    if len(groups) < 2:  # noqa: PLR2004 - the only type is the whole
        return "", 0.0
    carrying = sum(len(group) for group in groups.values())
    share = carrying / (carrying + sum(engine.member.starting for engine in engines))
    policy, found = scene.policy, {}
    for gpu, group in groups.items():
        sums = [
            signals.total(group, measure_of(scene, spec, length), size=lambda _: 1.0)
            for length in (policy.window_out, policy.window_in)
        ]
        known = [value for value in sums if value is not None]
        if known:
            found[gpu] = share * min(known) / len(group)
    gpu = max(found, key=lambda name: found[name], default="")
    return gpu, found.get(gpu, 0.0)


def _fewest(scene: Scene, spec: SignalSpec) -> int:
    """Return the fewest of a signal's role that carry its highest use; all when that is unknown."""
    policy, present = scene.policy, scene.present[spec.role]
    engines = scene.signals.engines(spec.role)
    step = policy.window_out / 2
    count = 1 + int((policy.window_in - policy.window_out) / step + 1e-6)
    sums = [
        signals.total(engines, measure_of(scene, spec, policy.window_out, i * step), size=_one)
        for i in range(count)
    ]
    known = [value for value in sums if value is not None]
    if not known:
        return present
    steady, carrying = steady_share(engines, scene.view)
    fewest = scene.reckon(
        f"fewest_{spec.signal}",
        "ceil((highest + unheard) / (1 - tolerance) - 1e-9)",
        spec.role.value,
        highest=max(known),
        unheard=carrying - steady,
        tolerance=policy.tolerance_in,
    )
    return max(1, min(present, int(fewest)))


def _one(_: Engine) -> float:
    return 1.0


def measure_of(scene: Scene, spec: SignalSpec, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "reading ÷ target" of a signal over a window."""
    read = _reading(scene, spec, length, offset)

    def used(engine: Engine) -> float | None:
        value = read(engine)
        return None if value is None else value / spec.target_of(engine.member.instance.gpu_type)

    return used


def _reading(scene: Scene, spec: SignalSpec, length: float, offset: float) -> Measure:
    if spec.kind == "tps":
        return signals.busy_rate(spec.role, length, offset)
    if spec.kind == "arrival_rate":
        return signals.rate_of("arrived", length, offset)
    if spec.kind == "arriving_tps":
        engines, long = scene.signals.engines(spec.role), scene.policy.window_in
        return signals.arriving(engines, spec.role, long, length, offset)
    return signals.gauge_mean(cast("Gauge", spec.kind), length, offset)


def _with_decode(scene: Scene, needed: dict[Role, int]) -> dict[Role, int]:
    """Return the counts with the decode that the ratio wants beside more prefill."""
    prefill = needed.get(Role.PREFILL)
    if prefill is None:
        return needed
    return {**needed, Role.DECODE: max(needed.get(Role.DECODE, 0), decode_beside(scene, prefill))}


def decode_beside(scene: Scene, prefill: int) -> int:
    """Return the decode count that goes with ``prefill``: the nearest to the present in the band.

    At a fixed ratio the most that it admits: rounding favours the role that is not measured.
    """
    band = scene.spec.ratio
    fewest, most = ratio.decode_for(prefill, band), ratio.most_decode(prefill, band)
    if ratio.is_fixed(band):
        return most
    return min(max(scene.present[Role.DECODE], fewest), most)
