"""Mistakes that each break a named safety claim of the state machine."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import claim

MUTANTS = (
    claim(
        "a scale in leaves the minimum in service",
        "policy/bounds.py",
        "least = {role: min(rules.min, start[role]) for role, rules in spec.roles.items()}",
        "least = dict.fromkeys(spec.roles, 0)",
        "rises_and_falls",
    ),
    claim(
        "nothing is launched on a taint that is not tolerated",
        "placement/kind.py",
        " and not intolerable(terms.taints, self.tolerations)\n",
        "\n",
        "nodes_are_tainted_while_it_grows",
    ),
    claim(
        "nothing is launched above a maximum",
        "policy/bounds.py",
        "    below = all(n <= spec.roles[role].max for role, n in after.items() if n > start[role])\n",
        "    below = True\n",
        "a_load_beyond_the_maximum",
    ),
    claim(
        "nothing is launched beyond the gpu budget",
        "policy/bounds.py",
        "    return below and paid and ratio.all_permitted",
        "    return below and ratio.all_permitted",
        "a_load_beyond_the_budget",
    ),
    claim(
        "nothing is withdrawn while readings are missing",
        "policy/consent.py",
        "bool(carrying) and steady >= HEARD_SHARE * carrying",
        "True",
        "a_third_is_not_heard_at_low_demand",
    ),
    claim(
        "one role alone stays in the band or comes closer",
        "policy/ratio.py",
        "    return outside == 0 or outside < distance(*before, band)\n",
        "    return True\n",
        "a_prefill_that_cannot_follow",
    ),
    claim(
        "nothing is withdrawn inside the cooldown",
        "policy/stability.py",
        "    return max(0.0, max(changes) + length - now) if changes else 0.0\n",
        "    return 0.0\n",
        "rises_and_falls",
    ),
    claim(
        "nothing is withdrawn inside the cooldown",
        "launching.py",
        "            last_in_at=max(changed, default=None),\n",
        "",
        "a_step_of_which_a_part_finds_a_place",
    ),
    claim(
        "a breach adds at most what it began with",
        "policy/guard.py",
        '    return int(scene.reckon("guard_size", formula, role.value, began=began, step=tier.step))\n',
        "    return step_size(scene.present[role], tier.step)\n",
        "a_breach_that_lasts",
    ),
    claim(
        "every withdrawn instance ends in service or terminated",
        "policy/soft.py",
        "    if scene.now >= soft.until and not (scene.view.partition or scene.view.launch_only):\n",
        "    if False:\n",
        "rises_and_falls",
    ),
    claim(
        "a partition replaces nothing",
        "silence.py",
        "    if len(silent) >= _LEAST:\n",
        "    if len(silent) < 0:\n",
        "half_the_agents_are_cut_off",
    ),
    claim(
        "a partition replaces and withdraws nothing",
        "policy/joint.py",
        "    if scene.view.partition:\n",
        "    if False:\n",
        "half_the_agents_are_cut_off",
    ),
    claim(
        "a decision is a function of its inputs",
        "policy/joint.py",
        "    return named_verdict(found, view.spec)\n",
        '    return replace(named_verdict(found, view.spec), reason=f"{found.reason} {id(view)}")\n',
        "rises_and_falls",
    ),
    claim(
        "nothing is launched beyond the quota of a sub cluster",
        "placement/federate.py",
        "            if most is not None and used + gpus > most:\n",
        "            if most is not None and used > most:\n",
        "a_load_beyond_the_quotas_of_a_sub_cluster",
    ),
    claim(
        "a silent sub cluster gets no new work",
        "subclusters.py",
        '        why = quiet.get(name, "") or barred',
        "        why = barred",
        "most_of_a_sub_cluster_is_silent",
    ),
    claim(
        "no group straddles two sub clusters",
        "placement/domains.py",
        '        cluster = self._cell("cluster", names[:_CLUSTER], ',
        '        cluster = self._cell("cluster", ("", "", names[_CLUSTER - 1]), ',
        "prefill_and_decode_have_room_only_in_two_sub_clusters",
    ),
)
