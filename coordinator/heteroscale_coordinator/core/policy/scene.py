"""One evaluation: everything the stages read, computed once, and how they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from heteroscale.words import Role
from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    Action,
    Counts,
    SignalValue,
    Together,
    Verdict,
    counts_as_supply,
)
from heteroscale_coordinator.core.policy import (
    bounds,
    demand,
    latency,
    ratio,
    supply,
    transfer,
)
from heteroscale_coordinator.core.policy.choke import Choke, choked_prefill
from heteroscale_coordinator.core.policy.demand import Demand
from heteroscale_coordinator.core.policy.figures import figures
from heteroscale_coordinator.core.policy.latency import Latency
from heteroscale_coordinator.core.policy.observe import Signals, observe_signals
from heteroscale_coordinator.core.policy.supply import Supply
from heteroscale_coordinator.core.policy.transfer import Transfer, observe_transfer
from heteroscale_coordinator.core.policy.view import ServiceView, written
from heteroscale_coordinator.core.spec import PolicySpec, ServiceSpec
from heteroscale_coordinator.core.sums import Sum

FOLLOWS = Demand(None, "it follows attention")
"""What is asked of ffn: nothing of its own."""


@dataclass(frozen=True, slots=True)
class Load:
    """Demand over supply of one role."""

    demand: Demand
    supply: Supply

    @property
    def ratio(self) -> float | None:
        """R; None when demand is unknown or there is no supply."""
        if self.demand.value is None or not self.supply.total:
            return None
        return self.demand.value / self.supply.total

    @property
    def percent(self) -> str:
        """R in words."""
        return "unknown" if self.ratio is None else f"{100 * self.ratio:.0f} %"


@dataclass(frozen=True, slots=True)
class Held:
    """Why a stage that would act does not; the first one said is the reason of a hold."""

    bound_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What the stages read. ``memory`` is already brought up to date, and kept in any case."""

    view: ServiceView
    signals: Signals
    memory: PolicyMemory
    loads: Mapping[Role, Load]
    latencies: tuple[Latency, ...]
    choked: Choke | None
    """How prefill starves decode; None when it does not."""
    worst: tuple[str, float] | None
    """The GPU type that serves most for its target, and its own R."""
    inputs: dict[str, str]
    """Filled by the stages as they speak; shown with the verdict."""
    sums: dict[str, Sum]
    """Filled by the stages as they reckon; stored with the verdict, and replayed by who reads it."""
    transfer: Transfer | None = None
    """How near KV transfer is to its limits; None when it is not watched."""

    def reckon(
        self, name: str, formula: str, unit: str = "", note: str = "", /, **terms: float
    ) -> float:
        """Return what ``formula`` gives for ``terms``, and keep the arithmetic as ``name``."""
        found = self.sums[name] = sums.reckon(formula, unit, note, **terms)
        return found.value

    def keep(self, name: str, found: Sum) -> float:
        """Keep arithmetic that was done elsewhere as ``name``; return what it gives."""
        self.sums[name] = found
        return found.value

    @property
    def spec(self) -> ServiceSpec:
        """The specification."""
        return self.view.spec

    @property
    def policy(self) -> PolicySpec:
        """The settings of the law."""
        return self.view.spec.policy

    @property
    def now(self) -> float:
        """The time of this evaluation."""
        return self.view.now

    @property
    def sizing(self) -> Load:
        """Demand over supply of the sizing role."""
        return self.loads[self.spec.sizing_role]

    @property
    def prefill_leads(self) -> bool:
        """Whether prefill is sized by its own demand, inside a band (not at a fixed ratio)."""
        return Role.PREFILL in self.loads and not ratio.is_fixed(self.spec.ratio)

    @property
    def leading_roles(self) -> tuple[Role, ...]:
        """The roles that are sized by their own demand."""
        sizing = self.spec.sizing_role
        return (sizing, Role.PREFILL) if self.prefill_leads else (sizing,)

    @property
    def measured(self) -> tuple[Role, ...]:
        """The roles of which a demand is known: all but ffn, which follows its attention."""
        return tuple(role for role in self.loads if role is not Role.FFN)

    @property
    def present(self) -> dict[Role, int]:
        """Counts of supply."""
        return {role: load.supply.count for role, load in self.loads.items()}

    @property
    def held(self) -> int:
        """GPUs of instances that are no supply (any more), and hold them: leaving, or of no role."""
        return sum(
            bounds.gpus_of(member.instance, self.spec)
            for member in self.view.members
            if member.instance.state in LIVE_STATES
            and not (counts_as_supply(member.instance) and member.instance.role in self.loads)
        )


def look(view: ServiceView) -> Scene:
    """Return the scene of one evaluation; its memory is still the view's own."""
    spec = view.spec
    seen = observe_signals(view)
    engines = {role: seen.engines(role) for role in spec.roles}
    asked = {
        role: FOLLOWS if role is Role.FFN else demand.demand_on(role, engines, spec)
        for role in spec.roles
    }
    choked = None
    if Role.PREFILL in spec.roles:
        choked = choked_prefill(engines, spec, asked)
    loads = {
        role: Load(
            asked[role],
            supply.supply_of(role, engines[role], spec, seen.lengths[role].factor),
        )
        for role in spec.roles
    }
    worst = supply.worst_type(spec.sizing_role, engines[spec.sizing_role], spec)
    latest = latency.latencies(seen, spec)
    supplies = {role: load.supply for role, load in loads.items()}
    found = figures(spec, asked, supplies, seen.lengths, view.learning)
    moved = observe_transfer(view, seen)
    if moved is not None and moved.seconds is not None:
        found["transfer_time"] = moved.seconds
    scene = Scene(view, seen, view.memory, loads, latest, choked, worst, {}, found, moved)
    scene.inputs.update(_inputs(scene))
    return scene


def _inputs(scene: Scene) -> dict[str, str]:
    inputs = {}
    for role in scene.measured:
        load, end = scene.loads[role], "" if role is scene.spec.sizing_role else f"_{role.value}"
        inputs[f"Q{end}"] = load.demand.text
        inputs[f"S{end}"] = load.supply.text
        if load.ratio is not None:
            quotient = f"{load.demand.value:.1f} ÷ {load.supply.total:.1f}"
            inputs[f"R{end}"] = f"{load.ratio:.3f} = {quotient}"
    if scene.spec.split:
        inputs["ffn"] = _beside_attention(scene)
    if scene.worst:
        inputs["R_worst_type"] = f"{scene.worst[1]:.3f} on {scene.worst[0] or 'an unnamed type'}"
    if scene.choked:
        inputs["choked"] = scene.choked.why
    if scene.transfer:
        inputs["transfer"] = scene.transfer.text
    for one in scene.latencies:
        inputs[one.kind] = one.text
    if any((leaving := scene.view.leaving()).values()):
        inputs["renewal"] = f"{written(leaving)} end soon: they serve until others do"
    return inputs | _heard(scene)


def _heard(scene: Scene) -> dict[str, str]:
    inputs = {}
    if outliers := [one.text for seen in scene.signals.roles.values() for one in seen.outliers]:
        inputs["outliers"] = "; ".join(outliers)
    if scene.signals.routers:
        inputs["routers"] = scene.signals.routers.text
    for role, seen in scene.signals.roles.items():
        inputs[f"coverage_{role.value}"] = f"{seen.heard} of {seen.carrying} heard, {seen.quality}"
    return inputs


def _beside_attention(scene: Scene) -> str:
    pair, present = ratio.pairs_of(scene.spec)[-1], scene.present
    low, high = pair.limits(present)
    return (
        f"{present[pair.follower]} beside {present[pair.lead]} attention: the inner ratio asks for "
        f"{low} and allows {high}"
    )


def act(
    scene: Scene,
    action: Action,
    delta: Counts,
    *,
    bound_by: str,
    reason: str,
    done: PolicyMemory | None = None,
) -> Verdict:
    """Return a verdict; ``done`` is remembered instead of the scene's memory once carried out."""
    return Verdict(
        action,
        reason[:1].upper() + reason[1:],
        bound_by,
        scene.memory,
        done or scene.memory,
        {role: n for role, n in delta.items() if n},
        dict(scene.inputs),
        (*scene.signals.values, *_reckoned(scene)),
        dict(scene.sums),
        before=scene.present,
        together=_together(scene, action),
    )


def _together(scene: Scene, action: Action) -> Together | None:
    if not transfer.binds(action, scene.present, scene.spec):
        return None
    return transfer.together(scene.spec, scene.memory.transfer, scene.transfer)


def hold(scene: Scene, why: Held) -> Verdict:
    """Return the verdict "do nothing", with its reason."""
    return act(scene, Action.HOLD, {}, bound_by=why.bound_by, reason=why.reason)


def difference(after: Counts, before: Counts) -> dict[Role, int]:
    """Return the change of each role that changes."""
    return {role: n - before.get(role, 0) for role, n in after.items() if n != before.get(role, 0)}


def with_wanted(memory: PolicyMemory, counts: Counts) -> PolicyMemory:
    """Return the memory with other wanted counts."""
    return replace(memory, wanted=dict(counts))


def _reckoned(scene: Scene) -> list[SignalValue]:
    rows = []
    for role in scene.measured:
        load = scene.loads[role]
        seen = scene.signals.roles[role]
        quality = seen.quality if load.demand.value is not None else "missing"
        name = role.value
        rows += [
            SignalValue(f"{name}_demand", load.demand.value, "tok/s", quality, seen.coverage),
            SignalValue(f"{name}_supply", load.supply.total, "tok/s", "ok", 1.0),
            SignalValue(f"{name}_load", load.ratio, "ratio", quality, seen.coverage),
            *_foreseen(scene, role, quality),
        ]
    return [*rows, *(scene.transfer.values if scene.transfer else ())]


def _foreseen(scene: Scene, role: Role, quality: str) -> list[SignalValue]:
    """Return the forecast of a role and how far its model was off in the past; none without one."""
    expected, name = scene.sums.get(f"{role.value}_forecast"), role.value
    history = scene.memory.forecast.roles.get(role)
    if expected is None or history is None or history.out is None:
        return []
    coverage = scene.signals.roles[role].coverage
    return [
        SignalValue(f"{name}_forecast", expected.value, "tok/s", quality, coverage),
        SignalValue(f"{name}_forecast_error", history.out.error, "ratio", quality, coverage),
        SignalValue(
            f"{name}_forecast_error_last", history.out.error_last, "ratio", quality, coverage
        ),
    ]
