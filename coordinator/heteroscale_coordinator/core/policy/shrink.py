"""Scale-in: always soft, always by consent, one at a time.

Three causes: demand low all through the long window; more present than wanted (an operator's scale,
or instances that came back after a partition); more than the bounds allow. The first needs every
consent. The second needs every one but low demand, and that what remains would carry the highest
demand of the window (else it would be taken back at once). The third needs none: bounds always win;
it is soft all the same, so nothing in flight is lost.

Only what serves can be withdrawn, and what is too many may be what is still starting: never so much
is taken that fewer go on serving than are to remain.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import SoftScaleIn
from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import bounds, consent, driver, linear, ratio
from heteroscale_coordinator.core.policy.demand import Demand, peak_demand
from heteroscale_coordinator.core.policy.flap import factor_in
from heteroscale_coordinator.core.policy.kept import kept
from heteroscale_coordinator.core.policy.laws import floors, floors_of
from heteroscale_coordinator.core.policy.proportional import needed_in
from heteroscale_coordinator.core.policy.scene import Held, Load, Scene, act, difference
from heteroscale_coordinator.core.policy.stability import cooldown_in_left
from heteroscale_coordinator.core.policy.steps import step_in
from heteroscale_coordinator.core.policy.view import written

_ASKING = frozenset({"velocity", "forecast", "reserve"})
"""Laws whose floor is also their need. Signals have their say in ``_carried_after``."""


def enforce_bounds(scene: Scene) -> Verdict | Held | None:
    """Withdraw what is above a maximum or the GPU budget."""
    present = scene.present
    if scene.memory.soft is not None or bounds.within(present, scene.spec):
        return None
    after = {r: min(n, present[r]) for r, n in bounds.clamp(present, scene.spec).items()}
    doing = f"More than the bounds allow ({written(present)} present, {written(after)} allowed)"
    return withdraw(scene, after, doing, bound_by="bounds")


def drop_surplus(scene: Scene) -> Verdict | Held | None:
    """Withdraw what is present beyond the wanted counts."""
    wanted, present = scene.memory.wanted, scene.present
    after = {role: min(n, wanted.get(role, n)) for role, n in present.items()}
    if scene.memory.soft is not None or after == present:
        return None
    doing = f"{written(difference(present, after))} more than wanted"
    consents = [*consent.safety(scene), *_carried_after(scene, after), *_asked_again(scene, after)]
    held = consent.refusal(scene, consents, doing)
    if held:
        return held
    return withdraw(scene, after, doing, bound_by="wanted")


def _carried_after(scene: Scene, after: Counts) -> list[consent.Consent]:
    """Consent when what remains would carry the highest demand of the window without a scale-out."""
    if scene.policy.driver != "demand":
        return driver.carried_after(scene, after)
    found = []
    limit = 1 + scene.policy.tolerance_out
    for role, load in scene.loads.items():
        if after[role] == scene.present[role]:
            continue
        leads = role is scene.spec.sizing_role or scene.prefill_leads
        peak, left = _peak(scene, role), load.supply.least(after[role])
        if peak.value is None and not leads:
            continue  # what a prefill that follows does not tell is the other consents' matter
        fine = peak.value is not None and bool(left) and peak.value <= limit * left
        text = f"{peak.text} on {left:.1f} tok/s left, allowed {limit:g}"
        found.append(consent.Consent(f"remaining.{role.value}", fine, text))
    return found


def _asked_again(scene: Scene, after: Counts) -> list[consent.Consent]:
    """Consent when no law would ask for what leaves at once; what is only held from before may go."""
    found = []
    for floor in floors(scene):
        for role, least in floor.counts.items():
            if floor.law in _ASKING and after[role] < scene.present[role]:
                text = f"{least} needed: {floor.why}"
                found.append(
                    consent.Consent(f"{floor.law}.{role.value}", after[role] >= least, text)
                )
    return found


def keep_ratio(scene: Scene) -> Verdict | Held | None:
    """Withdraw prefill beyond the ratio's band, or decode that no prefill can be launched for.

    Too few prefill are launched by ``mend_ratio``; only where bounds leave no room for them, decode
    has to leave. A dampened step at a time, with its cooldown and every consent. Ffn beside its
    attention likewise.
    """
    present, wanted = scene.present, scene.memory.wanted
    missing = any(present[role] < n for role, n in wanted.items())
    if scene.memory.soft is not None or missing:
        return None
    pairs = ratio.pairs_of(scene.spec)
    found = [_surplus_follower(scene, pair) or _surplus_lead(scene, pair) for pair in pairs]
    role, most, doing = next(filter(None, found), (None, 0, ""))
    if role is None:
        return None
    after = {**present, role: step_in(present[role], most, scene.policy.dampening_in)}
    consents = [*consent.safety(scene), *_carried_after(scene, after), *_asked_again(scene, after)]
    blocked = _cooling(scene) or consent.refusal(scene, consents, doing)
    if blocked:
        return _explained(blocked, doing)
    return withdraw(scene, after, doing, bound_by="ratio", wanted={**wanted, role: after[role]})


def _surplus_follower(scene: Scene, pair: ratio.Pair) -> tuple[Role, int, str] | None:
    """Return (prefill, how many the ratio allows, why) where there are more; or ffn."""
    role, present = pair.follower, scene.present[pair.follower]
    high = pair.limits(scene.memory.wanted).high
    most = max(high, scene.spec.roles[role].min)
    if present <= most:
        return None
    return role, most, f"{role.value} is {present}, the {pair.name} allows {high}"


def _surplus_lead(scene: Scene, pair: ratio.Pair) -> tuple[Role, int, str] | None:
    """Return (decode, how many prefill suffices for, why) where the bounds leave no more prefill.

    Or attention, where they leave no more ffn.
    """
    present, role = scene.present, pair.follower
    low = pair.limits(present).low
    wish = {**present, role: low}
    fitted = bounds.fit_out(present, wish, scene.spec, scene.held)
    if present[role] >= low or fitted != present:
        return None
    most = max(ratio.most_decode(present[role], pair.band), scene.spec.roles[pair.lead].min)
    if present[pair.lead] <= most:
        return None
    why = f"the bounds leave no more {role.value} than {present[role]}"
    lead = f"{pair.lead.value} is {present[pair.lead]}"
    return pair.lead, most, f"{lead}, the {pair.name} allows {most}: {why}"


def shrink(scene: Scene) -> Verdict | Held | None:
    """Scale in by demand."""
    if scene.memory.soft is not None or scene.memory.low_since is None or not is_low(scene):
        return None
    doing = driver.text(scene)
    brief = consent.refusal(scene, [consent.low_demand(scene)], doing)
    if brief:
        return None
    cooling = _cooling(scene)
    if cooling:
        return _explained(cooling, doing)
    wish = _wish(scene)
    after = bounds.fit_in(scene.present, wish, scene.spec) if wish else scene.present
    held = _nothing_left(scene, wish, after, doing) or _too_little(scene, after, doing)
    held = held or consent.refusal(scene, consent.safety(scene), doing)
    if held:
        return held
    doing = f"{doing} and low for {scene.policy.window_in:g} s"
    reached = wish is not None and all(after[role] == n for role, n in wish.items())
    bound = scene.policy.driver if reached else "bounds"
    return withdraw(scene, after, doing, bound_by=bound, wanted=after)


def _nothing_left(scene: Scene, wish: Counts | None, after: Counts, doing: str) -> Held | None:
    """Return why low demand leaves nothing to withdraw; None when something is."""
    if wish is None:
        return Held("coverage", f"{doing}, but its highest over the long window is unknown.")
    if difference(after, scene.present):
        return None
    return kept(scene, _own_needs(scene) or {}, doing)


def _too_little(scene: Scene, after: Counts, doing: str) -> Held | None:
    """Return why so small a step waits; None when it is worth a likely reversal, or waited long enough.

    Demand wanders by a few percent: what leaves for that is soon asked back, a start-up late.
    """
    policy, since = scene.policy, scene.memory.low_since
    leaving = difference(scene.present, after)
    # A dampened step is a share of what could leave.
    least = policy.least_step_in * policy.dampening_in
    worth = any(n >= least * scene.present[role] for role, n in leaving.items())
    patience = max(policy.window_in, 2 * policy.hold)
    if policy.driver != "demand" or worth or since is None or scene.now - since >= patience:
        return None
    share = f"{100 * policy.least_step_in:.0f} % of a role"
    return Held("step", f"{doing}, but less than {share} could leave: not before {patience:g} s.")


def is_low(scene: Scene) -> bool:
    """Return whether what drives the service is below 1 − θ just now: signals, latency, or demand.

    Demand is, when it is on the sizing role or on a prefill that leads.
    """
    if scene.policy.driver != "demand":
        return driver.is_low(scene) and not scene.choked
    low = _below(scene.sizing, scene)
    if scene.prefill_leads:
        low = low or _below(scene.loads[Role.PREFILL], scene)
    return low and not scene.choked


def _below(load: Load, scene: Scene) -> bool:
    return load.ratio is not None and load.ratio < 1 - scene.policy.tolerance_in


def _wish(scene: Scene) -> Counts | None:
    """Return the counts that one dampened step aims at; None when a peak is unknown.

    Instances that are still starting carry nothing yet: only what carries traffic may be spared.
    """
    if scene.policy.driver != "demand":
        return driver.wish(scene, floors_of(scene))
    role, present = scene.spec.sizing_role, scene.present
    own = _own_needs(scene)
    if own is None:
        return None
    floors = floors_of(scene)
    needed = min(present[role], max(own[role], floors.get(role, 0)))
    if Role.PREFILL not in scene.loads:
        return {role: _step(scene, role, needed)}
    prefill = max(own[Role.PREFILL], floors.get(Role.PREFILL, 0))
    needed = max(needed, min(present[role], ratio.decode_for(prefill, scene.spec.ratio)))
    return _beside(scene, needed, prefill)


def _own_needs(scene: Scene) -> dict[Role, int] | None:
    """Return what each role needs for its own highest demand; None when that is unknown.

    In a fixed ratio decode sizes both, but prefill goes along: as far only as what is left of it would
    carry its own peak without being over its target, else all of it would be taken back.
    """
    if scene.policy.driver != "demand":
        return None
    found = {}
    for role in scene.measured:
        leads = role is scene.spec.sizing_role or scene.prefill_leads
        share = scene.policy.tolerance_in if leads else -scene.policy.tolerance_out
        needed = _needed(scene, role, _peak(scene, role), share)
        if needed is None and leads:
            return None
        found[role] = (
            needed or 0
        )  # what a prefill that follows does not tell is the consents' matter
    return found


def _beside(scene: Scene, decode_needed: int, prefill_needed: int) -> Counts:
    present = scene.present
    decode = _step(scene, Role.DECODE, decode_needed)
    aim = ratio.prefill_for(decode, prefill_needed, scene.spec.ratio)
    prefill = _step(scene, Role.PREFILL, aim)
    return {
        Role.PREFILL: min(
            ratio.prefill_for(decode, prefill, scene.spec.ratio), present[Role.PREFILL]
        ),
        Role.DECODE: decode,
    }


def _needed(scene: Scene, role: Role, peak: Demand, below: float) -> int | None:
    """Return the fewest that carry a peak at 1 − ``below`` of their targets; None: it is unknown."""
    if peak.value is None:
        return None
    supply = scene.loads[role].supply
    count = int(scene.keep(f"needed_in_{role.value}", needed_in(peak.value, supply, below)))
    scene.inputs[f"needed_in_{role.value}"] = (
        f"{count} of {supply.count} for {peak.value:.1f} tok/s at {1 - below:g} of their targets"
    )
    return int(
        scene.reckon(
            f"least_in_{role.value}",
            "max(needed, present - max(0, carrying - needed))",
            "instances",
            "what still starts carries nothing, so only what carries may be spared",
            needed=count,
            present=supply.count,
            carrying=supply.carrying,
        )
    )


def _step(scene: Scene, role: Role, needed: int) -> int:
    """Return the count after one dampened step toward ``needed`` (``steps.step_in``), reckoned."""
    present = scene.present[role]
    if needed >= present:
        return present
    return int(
        scene.reckon(
            f"after_in_{role.value}",
            "present - max(1, floor((present - needed) * dampening + 1e-9))",
            role.value,
            present=present,
            needed=needed,
            dampening=scene.policy.dampening_in,
        )
    )


def _peak(scene: Scene, role: Role) -> Demand:
    engines = {name: scene.signals.engines(name) for name in scene.loads}
    found = peak_demand(engines, scene.view, role)
    scene.inputs[f"Q_in_{role.value}"] = found.text
    return found


def _cooling(scene: Scene) -> Held | None:
    left = cooldown_in_left(scene.memory, scene.policy, scene.now)
    if left <= 0:
        return None
    factor = scene.keep("cooldown_in_factor", factor_in(scene.memory, scene.policy, scene.now))
    scene.inputs["cooldown_in"] = (
        f"{left:.0f} s left of {scene.policy.cooldown_in:g} s × {factor:g}"
    )
    return Held("cooldown", "the last change is given time before anything is withdrawn.")


def _explained(held: Held, doing: str) -> Held:
    """A consent's refusal says what is being done already; a cooldown does not."""
    return held if held.bound_by == "consent" else replace(held, reason=f"{doing}: {held.reason}")


def withdraw(
    scene: Scene, wish: Counts, doing: str, *, bound_by: str, wanted: Counts | None = None
) -> Verdict | Held:
    """Return the soft scale-in toward ``wish``, to be observed from now on, or why it must wait.

    ``wanted`` is remembered as far as it is reached; without it the wanted counts stay.
    """
    now, after = scene.now, _within_reach(scene, wish)
    delta = difference(scene.present, after)
    if not delta:
        return _out_of_reach(scene, wish, doing, bound_by)
    if wanted is not None and not ratio.all_permitted(scene.present, after, scene.spec):
        return Held("ratio", f"{doing}, but not all of a step in the ratio serves yet.")
    asked = scene.sizing.demand.value
    prefill = scene.loads[Role.PREFILL].demand.value if scene.prefill_leads else None
    used = linear.used(scene) if scene.policy.driver == "signals" else {}
    until = now + scene.policy.observation
    soft = SoftScaleIn("", now, until, asked, asked or 0.0, prefill=prefill, signals=used)
    done = replace(scene.memory, last_in_at=now, soft=soft, low_since=None)
    if wanted is not None:
        shrinking = [role for role, n in scene.present.items() if wish[role] < n]
        reached = {role: max(wanted[role], after[role]) for role in shrinking}
        done = replace(done, wanted=bounds.clamp({**wanted, **reached}, scene.spec))
    reason = f"{doing}: {written(delta)} withdrawn and watched."
    found = act(scene, Action.SCALE_IN, delta, bound_by=bound_by, reason=reason, done=done)
    return replace(found, cause=doing[:1].upper() + doing[1:])


def _within_reach(scene: Scene, wish: Counts) -> dict[Role, int]:
    """Return the counts that can be left now.

    Only what serves and is ours leaves, and as many as ``wish`` names go on serving.
    """
    serving, movable = scene.view.serving(), scene.view.movable()
    return {
        role: n - max(0, min(n - wish[role], serving[role] - wish[role], movable[role]))
        for role, n in scene.present.items()
    }


def _out_of_reach(scene: Scene, wish: Counts, doing: str, bound_by: str) -> Held:
    serving = scene.view.serving()
    if any(wish[role] < min(n, serving[role]) for role, n in scene.present.items()):
        return Held(bound_by, f"{doing}, but what serves is not ours to withdraw.")
    return Held("starting", f"{doing}, but what is too many is still starting, or silent.")
