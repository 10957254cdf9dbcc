"""What must all be true before anything is withdrawn; each refusal is named.

A reading that an engine never tells neither consents nor refuses, and that is said; one that is
missing now refuses, because unknown is not zero. An engine known to be idle consents to everything.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import latency, signals
from heteroscale_coordinator.core.policy.demand import steady_share
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.windows import Gauge

HEARD_SHARE = 0.8
"""Share of each role heard all through the long window; fewer would be called a partition."""


class Consent(NamedTuple):
    """One condition of scale-in, whether it is met, and its arithmetic."""

    name: str
    given: bool
    text: str


def safety(scene: Scene) -> list[Consent]:
    """Return every consent but that of low demand."""
    # What ffn tells is no demand: it leaves with its attention, of what is known to serve.
    roles = scene.measured
    found = [_heard(scene, role) for role in roles]
    found += [_queues(scene, role) for role in roles]
    found += [_in_flight(scene, role) for role in roles]
    found += [_aborts(scene, role) for role in roles]
    found += [*_routers(scene), _kv_usage(scene), *_latency(scene)]
    if scene.choked:
        found.append(Consent("prefill", given=False, text=scene.choked.why))
    context = _context(scene)
    return [*found, context] if context else found


def low_demand(scene: Scene) -> Consent:
    """Consent when demand has been low all through the long window."""
    since, window = scene.memory.low_since, scene.policy.window_in
    lasted = 0.0 if since is None else scene.now - since
    return Consent("demand", lasted >= window, f"low for {lasted:.0f} s of {window:g} s")


def refusal(scene: Scene, consents: list[Consent], doing: str) -> Held | None:
    """Return who refuses, noting every consent in the inputs; None when all consent."""
    for one in consents:
        scene.inputs[f"consent.{one.name}"] = f"{'yes' if one.given else 'no'}: {one.text}"
    against = [one for one in consents if not one.given]
    if not against:
        return None
    names = "; ".join(f"{one.name} ({one.text})" for one in against)
    return Held("consent", f"{doing}, but not all consent: {names}.")


def _heard(scene: Scene, role: Role) -> Consent:
    steady, carrying = steady_share(scene.signals.engines(role), scene.view)
    text = f"{steady} of {carrying} heard all through {scene.policy.window_in:g} s"
    return Consent(
        f"coverage.{role.value}", bool(carrying) and steady >= HEARD_SHARE * carrying, text
    )


def _queues(scene: Scene, role: Role) -> Consent:
    """Consent when nothing waits, over the long window and just now.

    Requests in transfer are allowed beyond that as far as they are a pipeline, not a queue: as many
    as arrive within the mean TTFT (Little's law), or within its SLO when that is shorter.
    """
    name, allowed = f"queues.{role.value}", scene.policy.consent.queue_per_instance
    if scene.signals.roles[role].idle:
        return Consent(name, given=True, text="idle")
    count = max(1, scene.signals.roles[role].carrying)
    windows = (scene.policy.window_out, scene.policy.window_in)
    waiting = [_mean(scene, role, "waiting", length) for length in windows]
    if any(value is None for value in waiting):
        return Consent(name, given=False, text="waiting unknown")
    moving = [_mean(scene, role, "transferring", length) or 0.0 for length in windows]
    pipeline = _pipeline(scene, role)
    most, most_moving = max(v or 0.0 for v in waiting) / count, max(moving) / count
    fine = most + max(0.0, most_moving - pipeline / count) <= allowed
    text = f"{most:.2f} waiting, {most_moving:.2f} in transfer an instance, allowed {allowed:g}"
    return Consent(name, fine, f"{text} and {pipeline / count:.2f} on their way")


def _pipeline(scene: Scene, role: Role) -> float:
    engines, window = scene.signals.engines(role), scene.policy.window_in
    rate = signals.total(engines, signals.rate_of("arrived", window)) or 0.0
    known = next((one for one in scene.latencies if one.kind == "ttft"), None)
    source = Role.PREFILL if Role.PREFILL in scene.loads else role
    mean, _ = signals.mean_latency(scene.signals.engines(source), "ttft", window, window)
    return rate * min(mean or 0.0, known.slo if known else math.inf)


def _in_flight(scene: Scene, role: Role) -> Consent:
    """Consent when arrivals do not exceed completions: requests in flight do not grow.

    Means of the two halves of the window are compared; the larger of θ and the standard deviation
    of a Poisson count, plus one, is chance.
    """
    name = f"arrivals.{role.value}"
    if scene.signals.roles[role].idle:
        return Consent(name, given=True, text="idle")
    half = scene.policy.window_in / 2
    earlier = _mean(scene, role, "in_flight", half, half)
    later = _mean(scene, role, "in_flight", half)
    if earlier is None or later is None:
        return Consent(name, given=False, text="requests in flight unknown")
    chance = 1 + max(math.sqrt(earlier), scene.policy.tolerance_in * earlier)
    text = f"in flight {earlier:.1f} → {later:.1f}, chance {chance:.1f}"
    return Consent(name, later - earlier <= chance, text)


def _aborts(scene: Scene, role: Role) -> Consent:
    """Consent when no more requests are aborted than in the half window before."""
    half = scene.policy.window_in / 2
    engines = scene.signals.engines(role)
    later, earlier = (
        signals.total(engines, signals.rate_of("requests_aborted", half, offset))
        for offset in (0.0, half)
    )
    name = f"aborts.{role.value}"
    if later is None or earlier is None:
        return Consent(name, given=True, text="not told by these engines")
    before, now = earlier * half, later * half
    return Consent(name, not _rises(before, now), f"{before:.0f} → {now:.0f} aborted")


def _rises(before: float, now: float) -> bool:
    """Return whether a count rose by more than chance."""
    return now - before > 1 + 2 * math.sqrt(before)


def _routers(scene: Scene) -> list[Consent]:
    """Consent when the routers turn no more requests away, and fail no more, than half a window ago.

    A router that was heard before and is not now refuses: what it would say is unknown.
    """
    routers, half = scene.signals.routers, scene.policy.window_in / 2
    if routers.silent:
        text = f"router {routers.silent[0]} is not heard any more"
        return [Consent("routers", given=False, text=text)]
    found = []
    for word, counter in (("rejected", "requests_rejected"), ("failed", "requests_failed")):
        name = f"{word}.routers"
        now, before = (routers.rise(counter, half, offset) for offset in (0.0, half))
        if not routers:
            continue
        if now is None or before is None:
            why = routers.why_not(counter)
            found.append(Consent(name, given=bool(why), text=why or "heard too short a time"))
            continue
        found.append(Consent(name, not _rises(before, now), f"{before:.0f} → {now:.0f} {word}"))
    return found


def _kv_usage(scene: Scene) -> Consent:
    """Consent when no engine of the sizing role was short of KV cache in the window."""
    role, limit = scene.spec.sizing_role, scene.policy.consent.kv_usage
    engines = [e for e in scene.signals.engines(role) if e.carrying and e.fresh]
    highest: float | None = None
    silent = 0
    for engine in engines:
        span = engine.span(scene.policy.window_in)
        told = span.gauges("kv_usage") if span else []
        highest = max([*told, highest or 0.0]) if told else highest
        silent += not told and not engine.idle(scene.policy.window_out)
    if highest is None:
        return Consent("kv_usage", given=True, text="not told by these engines")
    if silent:
        return Consent("kv_usage", given=False, text=f"unknown of {silent}")
    return Consent("kv_usage", highest < limit, f"{highest:.2f} at most, allowed {limit:g}")


def _latency(scene: Scene) -> list[Consent]:
    """Consent when every promised latency is well inside its SLO, over both windows."""
    limit, window = scene.policy.consent.latency, scene.policy.window_in
    found = []
    longer = latency.latencies(scene.signals, scene.spec, short=window)
    for short, long in zip(scene.latencies, longer, strict=True):
        shares = [one.share for one in (short, long)]
        if any(share is None for share in shares):
            found.append(Consent(short.kind, given=False, text=short.text))
            continue
        worst = max(share or 0.0 for share in shares)
        text = f"{short.text}, at most {worst:.2f} of the SLO, allowed {limit:g}"
        found.append(Consent(short.kind, worst < limit, text))
    if scene.memory.breach is not None:
        found.append(Consent("breach", given=False, text="a latency breach is not over"))
    return found


def _context(scene: Scene) -> Consent | None:
    """Consent when requests are no longer than the targets were tested for."""
    limit = scene.policy.consent.max_context
    if limit is None:
        return None
    known = [
        signals.quotient(
            scene.signals.engines(role),
            "prompt_tokens",
            "requests_finished",
            scene.policy.window_in,
        )[0]
        for role in scene.measured
    ]
    means = [mean for mean in known if mean is not None]
    if not means:
        idle = scene.signals.roles[scene.spec.sizing_role].idle
        return Consent("context", idle, "idle" if idle else "unknown")
    return Consent("context", max(means) <= limit, f"{max(means):.0f} tokens, tested to {limit:g}")


def _mean(
    scene: Scene, role: Role, gauge: Gauge, length: float, offset: float = 0.0
) -> float | None:
    return signals.total(scene.signals.engines(role), signals.gauge_mean(gauge, length, offset))
