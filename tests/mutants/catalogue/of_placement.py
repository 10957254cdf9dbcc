"""Mistakes in placement: where."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import core

MUTANTS = (
    core(
        "a sick GPU takes something new",
        "sites.py",
        "    shut = {**others, **closed_gpus(agent), ",
        "    shut = {**others, ",
        "test_health.py",
    ),
    core(
        "a group is healed without waiting for quiet",
        "mend.py",
        "    return draft.now - newest >= service.spec.placement.repair.pause\n",
        "    return draft.now >= newest\n",
        "turn/test_mend.py",
    ),
    core(
        "one leaves for a better place that is no better",
        "placement/repair.py",
        "        if flaw.away or after < before:\n",
        "        if True:\n",
        "placement/test_repair.py",
    ),
    core(
        "a taint that is not tolerated keeps nobody away",
        "placement/kind.py",
        "        if taint.effect is not TaintEffect.PREFER_NO_SCHEDULE\n",
        "        if taint.effect is TaintEffect.NO_EXECUTE\n",
        "placement/test_taints.py",
        "placement/test_safety.py",
    ),
    core(
        "prefill feeds what cannot take its cache",
        "placement/feeds.py",
        "        return taker in named\n",
        "        return True\n",
        "placement/test_rules.py",
    ),
    core(
        "a failure domain that is full takes more",
        "placement/spread.py",
        "                if has + n > most:\n",
        "                if has > most:\n",
        "placement/test_rules.py",
    ),
    core(
        "a scale-in leaves a group with one role",
        "placement/victims.py",
        "        return peer is not None and last and group.of(peer) > self.left.get(peer, 0)\n",
        "        return False\n",
        "placement/test_victims.py",
    ),
    core(
        "readers see what a turn dropped",
        "sites.py",
        "    _read(Draft(draft.state, draft.now, draft.mint), sorted(seen.ahead))\n",
        "",
        "turn/test_seen.py",
    ),
    core(
        "a minipod with a broken node counts as whole",
        "placement/fragments.py",
        "        one.broken += sign * (not site.whole)\n",
        "",
        "placement/test_fragments.py",
    ),
    core(
        "a scale-in leaves the fullest failure domain as it is",
        "placement/victims.py",
        "            -self._over(one),\n",
        "            0,\n",
        "placement/test_crowds.py",
    ),
    core(
        "a switch breaks a spread limit that is required",
        "placement/crowds.py",
        "    if not crowds.rule.required:\n",
        "    if crowds.rule.required:\n",
        "placement/test_crowds.py",
    ),
    core(
        "half of a split prefill stands apart from its other half",
        "placement/ground.py",
        "        return self.peer in _INNER and _INNER.issuperset(self.ask.delta)\n",
        "        return False\n",
        "placement/test_split.py",
    ),
    core(
        "attention without its ffn is content",
        "placement/repair.py",
        '    return (Pair(*halves, inner, "s1", homes_of(nodes, "s1"), halves), outer)\n',
        "    return (outer,)\n",
        "placement/test_repair.py",
    ),
    core(
        "a place that no longer stands is committed",
        "placement/cycle.py",
        "            if not self._holds_still(self._done[number]):\n",
        "            if False:\n",
        "turn/test_placing.py",
    ),
    core(
        "an answer is carried out for a service that has changed since it asked",
        "placing.py",
        "    if _as_it_was(draft, question, outcome):\n",
        "    if True:\n",
        "turn/test_placing.py",
    ),
    core(
        "a cycle is placed in one piece, however large",
        "placing.py",
        "        done = asked.cycle.advance(len(asked.questions), PLACES)\n",
        "        done = asked.cycle.advance(len(asked.questions))\n",
        "turn/test_placing.py",
    ),
)
