"""The ratio advisor: which prefill ÷ decode the load asks for, on what evidence, since when.

The ratio advised is that of the instances needed, ``(Q_P ÷ τ_P) ÷ (Q_D ÷ τ_D)``, each a mean over an
hour, so that busy minutes weigh as much as they ask for. What else is seen speaks for or against it:
queues on one side alone, TTFT against TBT as shares of their SLOs, and SM activity where the agents
tell it (the roles should cross at the same height). Confidence is the share of the evidence that
agrees, and grows with the time watched.

``ratio.adapt`` follows the advice inside the band: the ratio is held as the paper's fixed one, and
moves by a small step, seldom. Nothing of it is launched or withdrawn at once: the counts follow as
after any change of the ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.ratio import RatioMemory
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.spec import RatioSpec

EVERY = 60.0
"""Seconds from one look to the next: the memory is written no oftener for it."""
HORIZON = 3600.0
"""Seconds that the means reach back, and that full confidence takes."""
STRAY = 0.15
"""Share by which the ratio needed must differ before another is advised: rounding is no reason."""
PLAIN = 0.2
"""A mean vote nearer to 0 says nothing."""
SURE = 0.6
"""Confidence from which `adapt` follows the advice."""
_SCALE = 0.5
"""Of the SLO: latency below it points nowhere."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Another ratio than the one in force."""

    now: float
    ratio: float
    confidence: float
    because: str

    @property
    def heavy(self) -> Role:
        """The role that there are too few of."""
        return Role.PREFILL if self.ratio > self.now else Role.DECODE


def at_held_ratio(view: ServiceView) -> ServiceView:
    """Return the view with the ratio that `adapt` holds now in place of its band."""
    band = view.spec.ratio
    if not band.adapt or Role.PREFILL not in view.spec.roles:
        return view
    held = _held(view, band)
    spec = view.spec.model_copy(update={"ratio": RatioSpec(min=held, max=held)})
    return replace(view, spec=spec, base=view.base_spec)


def _held(view: ServiceView, band: RatioSpec) -> float:
    """Return the ratio held inside the band; at first the one that runs."""
    present, held = view.present(), view.memory.ratio.held
    if held is None and present.get(Role.DECODE):
        held = present[Role.PREFILL] / present[Role.DECODE]
    return min(max(held or (band.min * band.max) ** 0.5, band.min), band.max)


# ---- evidence --------------------------------------------------------------------------------


def learned(scene: Scene) -> RatioMemory:
    """Return the memory with what this minute shows, and with the ratio that is held from now on."""
    memory, now = scene.memory.ratio, scene.now
    if Role.PREFILL not in scene.loads or (memory.at is not None and now - memory.at < EVERY):
        return memory
    needed = {role: _needed(scene, role) for role in (Role.PREFILL, Role.DECODE)}
    prefill, decode = needed[Role.PREFILL], needed[Role.DECODE]
    if prefill is None or decode is None:
        # Time of which nothing is known is no evidence.
        return replace(memory, at=now)
    seen = min(memory.seen + EVERY, HORIZON)
    weight = EVERY / seen

    def mean(before: float, value: float) -> float:
        return before + weight * (value - before)

    activity = _activity(scene)
    if activity is not None:
        activity = activity if memory.activity is None else mean(memory.activity, activity)
    memory = replace(
        memory,
        seen=seen,
        at=now,
        prefill=mean(memory.prefill, prefill),
        decode=mean(memory.decode, decode),
        queue=mean(memory.queue, _queue(scene)),
        latency=mean(memory.latency, _latency(scene)),
        activity=activity,
    )
    return _moved(scene, _standing(scene, memory))


def _needed(scene: Scene, role: Role) -> float | None:
    load = scene.loads[role]
    if load.demand.value is None or not load.supply.total:
        return None
    return load.demand.value * load.supply.count / load.supply.total


def _queue(scene: Scene) -> float:
    allowed, length = scene.policy.consent.queue_per_instance, scene.policy.window_in
    waiting = {}
    for role in (Role.PREFILL, Role.DECODE):
        total = signals.total(scene.signals.engines(role), signals.gauge_mean("waiting", length))
        waiting[role] = (total or 0.0) > allowed * max(1, scene.signals.roles[role].carrying)
    return float(waiting[Role.PREFILL]) - float(waiting[Role.DECODE])


def _latency(scene: Scene) -> float:
    shares = {one.kind: one.share for one in scene.latencies}
    ttft, tbt = shares.get("ttft"), shares.get("tbt")
    if ttft is None or tbt is None or max(ttft, tbt) < _SCALE:
        return 0.0
    return (ttft - tbt) / max(ttft, tbt)


def _activity(scene: Scene) -> float | None:
    told = {value.name: value.value for value in scene.signals.values}
    prefill, decode = told.get("prefill_sm_activity"), told.get("decode_sm_activity")
    return None if prefill is None or decode is None else prefill - decode


# ---- advice ----------------------------------------------------------------------------------


def advice_of(memory: RatioMemory, band: RatioSpec) -> Advice | None:
    """Return which ratio is advised; None while the one in force will do, or nothing is known.

    Inside a band prefill follows its own demand anyway: advised is what lies outside of it.
    """
    if memory.prefill <= 0 or memory.decode <= 0:
        return None
    wanted = memory.prefill / memory.decode
    now = min(max(wanted, band.min), band.max)
    if abs(wanted / now - 1) <= STRAY:
        return None
    sign = 1.0 if wanted > now else -1.0
    votes = _votes(memory)
    agreeing = 2 + sum(sign * vote > PLAIN for vote in votes.values())
    against = [name for name, vote in votes.items() if sign * vote < -PLAIN]
    confidence = agreeing / (agreeing + len(against)) * memory.seen / HORIZON
    return Advice(now, wanted, confidence, _because(memory, votes, against))


def _votes(memory: RatioMemory) -> dict[str, float]:
    votes = {"queues": memory.queue, "latency": memory.latency}
    if memory.activity is not None:
        votes["SM activity"] = memory.activity
    return votes


def _because(memory: RatioMemory, votes: dict[str, float], against: list[str]) -> str:
    words = [f"demand needs {memory.prefill:.2f} prefill and {memory.decode:.2f} decode at target"]
    for name, vote in votes.items():
        if abs(vote) > PLAIN:
            role = "prefill" if vote > 0 else "decode"
            words.append(f"{name} point to {role} ({vote:+.2f})")
    if against:
        words.append(f"{' and '.join(against)} speak against it")
    return "; ".join(words)


def _standing(scene: Scene, memory: RatioMemory) -> RatioMemory:
    """Return the memory with the time since when the advice points where it points now."""
    before = advice_of(scene.memory.ratio, scene.spec.ratio)
    found = advice_of(memory, scene.spec.ratio)
    if found is None:
        return replace(memory, since=None)
    same = before is not None and before.heavy is found.heavy and memory.since is not None
    return memory if same else replace(memory, since=scene.now)


def _moved(scene: Scene, memory: RatioMemory) -> RatioMemory:
    """Return the memory with the held ratio a step nearer to what is advised, where it may move."""
    band = scene.view.base_spec.ratio
    if not band.adapt:
        return replace(memory, held=None, moved_at=None)
    held = scene.spec.ratio.min
    found = advice_of(memory, scene.spec.ratio)
    last = max(t for t in (memory.moved_at, memory.since, 0.0) if t is not None)
    if found is None or found.confidence < SURE or scene.now - last < band.adapt_every:
        return replace(memory, held=held)
    share = min(abs(found.ratio / held - 1), band.adapt_step)
    step = held * (1 + share) if found.heavy is Role.PREFILL else held / (1 + share)
    step = min(max(step, band.min), band.max)
    return replace(memory, held=step, moved_at=scene.now if step != held else memory.moved_at)


# ---- said --------------------------------------------------------------------------------------


def tell_advice(scene: Scene) -> None:
    """Put the ratio held and the ratio advised into the decision's inputs, with the arithmetic."""
    memory, band = scene.memory.ratio, scene.view.base_spec.ratio
    if Role.PREFILL not in scene.loads:
        return
    if band.adapt:
        when = "" if memory.moved_at is None else f", moved {_ago(scene.now - memory.moved_at)} ago"
        scene.inputs["ratio"] = (
            f"{scene.spec.ratio.min:.3g} held inside {band.min:g} to {band.max:g}{when}"
        )
    found = advice_of(memory, scene.spec.ratio)
    if found is None:
        return
    advised = scene.reckon(
        "ratio_advised", "prefill / decode", "", prefill=memory.prefill, decode=memory.decode
    )
    times = max(advised / found.now, found.now / advised)
    stands = _ago(scene.now - memory.since) if memory.since is not None else "a moment"
    scene.inputs["ratio_advice"] = (
        f"{found.heavy.value}-heavy by {times:.2f}: ratio {found.now:.3g} → {advised:.3g} advised "
        f"because {found.because}. Confidence {found.confidence:.2f}, stands for {stands}"
    )


def _ago(seconds: float) -> str:
    minutes = seconds / 60
    # Up to two hours, minutes say more than hours do.
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004
