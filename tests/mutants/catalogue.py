"""The mistakes that would do most harm, each made in one place: every one must turn a test red.

A mutant is a snippet of a module that occurs there exactly once, what it becomes, and the fast tests
that should see it. When code moves on, its mutant fails with the snippet that is no longer there:
find the rule's new place, and make the same mistake there.
"""

from __future__ import annotations

from dataclasses import dataclass

CORE = "coordinator/heteroscale_coordinator/core"
AGENT = "agent/heteroscale_agent"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``tests`` are files, or node ids, of which one at least must fail."""

    name: str
    module: str
    """From the repository's root."""
    snippet: str
    becomes: str
    tests: tuple[str, ...]
    claim: str = ""
    """The claim of the state machine that must be what is broken (``tests.core.machine.claims``)."""


def _core(name: str, module: str, snippet: str, becomes: str, *tests: str) -> Mutant:
    places = tuple(f"tests/core/{test}" for test in tests)
    return Mutant(name, f"{CORE}/{module}", snippet, becomes, places)


def _claim(claim: str, module: str, snippet: str, becomes: str, story: str) -> Mutant:
    """Return the mistake that breaks a claim in one of the machine's fixed stories."""
    place = f"tests/core/machine/test_stories.py::test_{story}"
    name = f"not so in {story.replace('_', ' ')}: {claim}"
    return Mutant(name, f"{CORE}/{module}", snippet, becomes, (place,), claim)


def _agent(name: str, module: str, snippet: str, becomes: str, *tests: str) -> Mutant:
    places = tuple(f"tests/agent/{test}" for test in tests)
    return Mutant(name, f"{AGENT}/{module}", snippet, becomes, places)


MUTANTS = (
    # ---- the agent's promises ----
    _agent(
        "the lease is ignored",
        "leases.py",
        "if renewable(record) and lease_until_at is not None and now >= lease_until_at:",
        "if False:",
        "test_life_leases.py",
    ),
    _agent(
        "a drain waits for nothing",
        "quiescence.py",
        "    if in_flight != 0:\n",
        "    if in_flight < 0:\n",
        "test_quiescence.py",
        "test_life_drain.py",
    ),
    _agent(
        "an unknown queue is an empty one, to a drain",
        "quiescence.py",
        "    if in_flight is None:\n",
        "    in_flight = in_flight or 0.0\n    if in_flight is None:\n",
        "test_quiescence.py",
    ),
    _agent(
        "a drain does not wait for the routers",
        "quiescence.py",
        "    if not gate_closed:\n",
        "    if gate_closed is None:\n",
        "test_quiescence.py",
    ),
    _agent(
        "a stale generation is accepted",
        "executor.py",
        "if command.expected_generation != record.generation:",
        "if command.expected_generation > record.generation + 1_000:",
        "test_executor.py",
    ),
    _agent(
        "an order past its deadline is carried out",
        "executor.py",
        "        if late > 0:\n",
        "        if late > 1e9:\n",
        "test_executor.py",
    ),
    _agent(
        "an older epoch is obeyed",
        "executor.py",
        "        if command.epoch < heard:\n",
        "        if command.epoch < 0:\n",
        "test_executor.py",
    ),
    # ---- what is known ----
    _core(
        "NaN is zero",
        "track.py",
        "_NAN, _INF = math.nan, math.inf",
        "_NAN, _INF = 0.0, math.inf",
        "test_track.py",
    ),
    _core(
        "an unknown queue consents",
        "policy/consent.py",
        'return Consent(name, given=False, text="waiting unknown")',
        'return Consent(name, given=True, text="waiting unknown")',
        "policy/test_in.py",
    ),
    _core(
        "engines that are not heard consent",
        "policy/consent.py",
        "bool(carrying) and steady >= HEARD_SHARE * carrying",
        "True",
        "policy/test_in.py",
    ),
    _core(
        "a partition is counted as deaths",
        "silence.py",
        "    if len(silent) >= _LEAST:\n",
        "    if len(silent) < 0:\n",
        "turn",
    ),
    _core(
        "a silent agent is dead at once",
        "silence.py",
        "agent.lost = agent.silent and _out_of_patience(draft, agent)",
        "agent.lost = agent.silent",
        "turn",
    ),
    _core(
        "who was forgotten is never asked who it is",
        "fleet.py",
        "        draft.emit(AskHello(event.agent_id, event.incarnation))\n",
        "",
        "test_review_turn.py",
    ),
    _core(
        "an older word is believed",
        "instance.py",
        "    if fact.generation < known.generation and known.agent_id == agent_id:\n",
        "    if fact.generation < 0:\n",
        "turn",
    ),
    # ---- laws ----
    _core(
        "pending is not counted",
        "model.py",
        "    return instance.state in STARTING_STATES or instance.state in (\n",
        "    return instance.state in (\n",
        "policy/test_closed_loop.py",
    ),
    _core(
        "what piles up during a start is asked for again",
        "policy/backlog.py",
        "    return sum(e.target * max(0.0, e.missed - offset) for e in engines)\n",
        "    return 0.0\n",
        "machine/test_pending.py",
        "policy/test_coming.py",
    ),
    _core(
        "a queue grows by what is served below the targets",
        "policy/coming.py",
        "    capacity = max(demand.served or 0.0, sum(engine.target for engine in carrying))\n",
        "    capacity = demand.served or 0.0\n",
        "policy/test_coming.py",
    ),
    _core(
        "a queue at one decode engine doubles them all",
        "policy/saturation.py",
        "    if sum(n > each for n in told) < len(told) / 2:\n",
        "    if not told:\n",
        "policy/test_saturation.py",
    ),
    _core(
        "what decode serves behind a queue is not its capacity",
        "policy/saturation.py",
        "    if short <= 1 + scene.policy.tolerance_out:\n",
        "    if short <= MOST:\n",
        "policy/test_saturation.py",
    ),
    _core(
        "one prompt's length is believed as that of a thousand",
        "policy/lengths.py",
        '        "1 + (given - 1) * requests / (requests + doubted)",\n',
        '        "given",\n',
        "policy/test_lengths.py",
    ),
    _core(
        "prompts of before never fade",
        "policy/lengths.py",
        "    left = math.exp(-(now - past.at) / FADING)\n",
        "    left = 1.0\n",
        "policy/test_lengths.py",
    ),
    _core(
        "a fixed ratio asks decode alone before prefill goes",
        "policy/shrink.py",
        "    prefill = max(own[Role.PREFILL], floors.get(Role.PREFILL, 0))\n",
        "    prefill = floors.get(Role.PREFILL, 0)\n",
        "test_fixed_ratio.py",
    ),
    _core(
        "steps of the guard compound",
        "policy/guard.py",
        '    return int(scene.reckon("guard_size", formula, role.value, began=began, step=tier.step))\n',
        "    return step_size(scene.present[role], tier.step)\n",
        "policy/test_guard.py",
    ),
    _core(
        "the guard does not wait for its last step",
        "policy/guard.py",
        "    if left <= 0 or escalates:\n",
        "    if left <= 1e9 or escalates:\n",
        "policy/test_guard.py",
    ),
    _core(
        "the ratio's clamp is reversed",
        "policy/ratio.py",
        "    return min(max(wish, low), high)\n",
        "    return max(low, high) if wish < low else min(low, high)\n",
        "policy/test_ratio.py",
    ),
    _core(
        "one role alone leaves the band",
        "policy/ratio.py",
        "    return outside == 0 or outside < distance(*before, band)\n",
        "    return True\n",
        "policy/test_ratio.py",
    ),
    _core(
        "the inner ratio is held the wrong way round",
        "policy/ratio.py",
        "Pair(Role.FFN, Role.PREFILL, spec.inner_ratio.turned())",
        "Pair(Role.FFN, Role.PREFILL, spec.inner_ratio)",
        "policy/test_split.py",
    ),
    _core(
        "attention goes without its ffn",
        "policy/ratio.py",
        "    if spec.split and spec.inner_ratio is not None:\n",
        "    if False:\n",
        "policy/test_split.py",
    ),
    _core(
        "the cooldown of scale-in is ignored",
        "policy/stability.py",
        "    return max(0.0, max(changes) + length - now) if changes else 0.0\n",
        "    return 0.0\n",
        "policy/test_in.py",
    ),
    _core(
        "the cooldown of scale-out is ignored",
        "policy/stability.py",
        "    return 0.0 if last is None else max(0.0, last + length - now)\n",
        "    return 0.0\n",
        "policy/test_out.py",
    ),
    _core(
        "the GPU budget is ignored",
        "policy/bounds.py",
        "    return below and paid and ratio.all_permitted",
        "    return below and ratio.all_permitted",
        "policy/test_bounds.py",
        "policy/test_claims.py",
    ),
    _core(
        "the minimum is ignored by a scale-in",
        "policy/bounds.py",
        "least = {role: min(rules.min, start[role]) for role, rules in spec.roles.items()}",
        "least = dict.fromkeys(spec.roles, 0)",
        "policy/test_bounds.py",
    ),
    _core(
        "launches do not back off",
        "policy/grow.py",
        "    left = memory.launch_after - scene.now\n",
        "    left = 0.0\n",
        "policy/test_repair.py",
    ),
    _core(
        "a choked prefill looks like low demand",
        "policy/shrink.py",
        "    return low and not scene.choked\n",
        "    return low\n",
        "policy/test_in.py",
        "test_transcripts.py",
    ),
    _core(
        "a scale-in that went wrong costs nothing",
        "policy/soft.py",
        "(2 if penalty else 1)",
        "1",
        "policy/test_soft.py",
    ),
    # ---- each safety claim of the state machine ----
    _claim(
        "a scale in leaves the minimum in service",
        "policy/bounds.py",
        "least = {role: min(rules.min, start[role]) for role, rules in spec.roles.items()}",
        "least = dict.fromkeys(spec.roles, 0)",
        "rises_and_falls",
    ),
    _claim(
        "nothing is launched above a maximum",
        "policy/bounds.py",
        "    below = all(n <= spec.roles[role].max for role, n in after.items() if n > start[role])\n",
        "    below = True\n",
        "a_load_beyond_the_maximum",
    ),
    _claim(
        "nothing is launched beyond the gpu budget",
        "policy/bounds.py",
        "    return below and paid and ratio.all_permitted",
        "    return below and ratio.all_permitted",
        "a_load_beyond_the_budget",
    ),
    _claim(
        "nothing is withdrawn while readings are missing",
        "policy/consent.py",
        "bool(carrying) and steady >= HEARD_SHARE * carrying",
        "True",
        "a_third_is_not_heard_at_low_demand",
    ),
    _claim(
        "one role alone stays in the band or comes closer",
        "policy/ratio.py",
        "    return outside == 0 or outside < distance(*before, band)\n",
        "    return True\n",
        "a_prefill_that_cannot_follow",
    ),
    _claim(
        "nothing is withdrawn inside the cooldown",
        "policy/stability.py",
        "    return max(0.0, max(changes) + length - now) if changes else 0.0\n",
        "    return 0.0\n",
        "rises_and_falls",
    ),
    _claim(
        "nothing is withdrawn inside the cooldown",
        "launching.py",
        "            last_in_at=max(changed, default=None),\n",
        "",
        "a_step_of_which_a_part_finds_a_place",
    ),
    _claim(
        "a breach adds at most what it began with",
        "policy/guard.py",
        '    return int(scene.reckon("guard_size", formula, role.value, began=began, step=tier.step))\n',
        "    return step_size(scene.present[role], tier.step)\n",
        "a_breach_that_lasts",
    ),
    _claim(
        "every withdrawn instance ends in service or terminated",
        "policy/soft.py",
        "    if scene.now >= soft.until and not (scene.view.partition or scene.view.launch_only):\n",
        "    if False:\n",
        "rises_and_falls",
    ),
    _claim(
        "a partition replaces nothing",
        "silence.py",
        "    if len(silent) >= _LEAST:\n",
        "    if len(silent) < 0:\n",
        "half_the_agents_are_cut_off",
    ),
    _claim(
        "a partition replaces and withdraws nothing",
        "policy/joint.py",
        "    if view.partition:\n",
        "    if False:\n",
        "half_the_agents_are_cut_off",
    ),
    _claim(
        "a decision is a function of its inputs",
        "policy/joint.py",
        "    return named_verdict(found, view.spec)\n",
        '    return replace(named_verdict(found, view.spec), reason=f"{found.reason} {id(view)}")\n',
        "rises_and_falls",
    ),
    # ---- the turn ----
    _core(
        "a paused service acts",
        "evaluate.py",
        "    if service.paused or service.spec.watched or service.deleting:\n",
        "    if service.deleting:\n",
        "turn",
    ),
    _core(
        "a time that nobody watched counts as observation",
        "resume.py",
        "soft=replace(soft, at=soft.at + away, until=soft.until + away) if soft else None",
        "soft=soft",
        "test_restart.py",
    ),
    _core(
        "a service that raises stops the others",
        "step.py",
        "        _quarantine(draft, name, error)\n",
        "        raise\n",
        "turn",
    ),
    _core(
        "what stands on a cordon comes back first",
        "carry.py",
        "    return sorted(instances, key=draft.on_cordon)\n",
        "    return list(instances)\n",
        "turn/test_cordon.py",
    ),
    _core(
        "a shortage drains what is cordoned",
        "shortage.py",
        "    if draft.on_cordon(instance):\n        return False",
        "    if draft.on_cordon(instance):\n        pass",
        "test_shortage.py",
    ),
    # ---- where ----
    _core(
        "a sick GPU takes something new",
        "sites.py",
        "    shut = closed_gpus(agent) | dict.fromkeys(",
        "    shut = dict.fromkeys(",
        "test_health.py",
    ),
    _core(
        "a group is healed without waiting for quiet",
        "mend.py",
        "    return draft.now - newest >= service.spec.placement.repair.pause\n",
        "    return draft.now >= newest\n",
        "turn/test_mend.py",
    ),
    _core(
        "one leaves for a better place that is no better",
        "placement/repair.py",
        "        if flaw.sick or after < before:\n",
        "        if True:\n",
        "placement/test_repair.py",
    ),
    _core(
        "prefill feeds what cannot take its cache",
        "placement/feeds.py",
        "        return taker in named\n",
        "        return True\n",
        "placement/test_rules.py",
    ),
    _core(
        "a failure domain that is full takes more",
        "placement/spread.py",
        "                if has + n > most:\n",
        "                if has > most:\n",
        "placement/test_rules.py",
    ),
    _core(
        "a scale-in leaves a group with one role",
        "placement/victims.py",
        "        return peer is not None and last and group.of(peer) > self.left.get(peer, 0)\n",
        "        return False\n",
        "placement/test_victims.py",
    ),
    # ---- the loop ----
    Mutant(
        "what is not committed takes effect",
        "coordinator/heteroscale_coordinator/loop.py",
        "        if not await self._writer.commit(changes, learned, now):\n"
        "            self._hold(letters)\n"
        "            return False\n",
        "        await self._writer.commit(changes, learned, now)\n",
        ("tests/coordinator/test_loop.py",),
    ),
)
