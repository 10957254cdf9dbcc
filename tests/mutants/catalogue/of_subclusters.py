"""Mistakes with sub-clusters: quotas, silence, refusal, and which of them a step goes to."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import core

MUTANTS = (
    core(
        "a silent sub-cluster gets new work",
        "subclusters.py",
        '        why = quiet.get(name, "") or barred',
        "        why = barred",
        "test_subclusters.py",
    ),
    core(
        "what is missing waits for a silent sub-cluster",
        "policy/joint.py",
        "        if scene.view.elsewhere:\n",
        "        if False:\n",
        "test_subclusters.py",
    ),
    core(
        "a partition of several sub-clusters is taken for the silence of one",
        "subclusters.py",
        "    return all(state.sub_cluster(agent_id) in closed for agent_id in cut_off)\n",
        "    return True\n",
        "test_subclusters.py",
    ),
    core(
        "what had not begun in a silent sub-cluster is sent again on its return",
        "subclusters.py",
        "                if command.verb is Verb.LAUNCH:\n",
        "                if command.verb is Verb.DRAIN:\n",
        "test_subclusters.py",
    ),
    core(
        "what runs in a silent sub-cluster is taken for never started",
        "subclusters.py",
        "instance.silent_from is not InstanceState.PENDING:",
        "instance.silent_from is None:",
        "test_subclusters.py",
    ),
    core(
        "a refusing sub-cluster is not left out",
        "subclusters.py",
        'quiet.get(name, "") or barred.sub_clusters.get(name, "")',
        'quiet.get(name, "")',
        "test_subclusters.py",
    ),
    core(
        "a refusing sub-cluster condemns its GPU types everywhere",
        "breaker.py",
        "len({home(agent_id) for agent_id in after.where}) > 1\n",
        "bool(after.where)\n",
        "test_subclusters.py",
    ),
    core(
        "the quota of a GPU type is exceeded",
        "placement/federate.py",
        "            if most is not None and used + gpus > most:\n",
        "            if most is not None and used > most:\n",
        "placement/test_federate.py",
    ),
    core(
        "the quota of a service is exceeded",
        "placement/federate.py",
        "            if told.quota is not None and told.used + gpus > told.quota:\n",
        "            if told.quota is not None and told.used > told.quota:\n",
        "placement/test_federate.py",
    ),
    core(
        "services of one cycle do not see what each took of a quota",
        "placement/cycle.py",
        "            self._view.hold(agent_id, indices)\n        self._promise(done, +1)\n",
        "            self._view.hold(agent_id, indices)\n",
        "placement/test_federate.py",
    ),
    core(
        "a step goes to a sub-cluster that it may not use",
        "placement/ground.py",
        "            if within is not None and family.sub_cluster not in within:\n",
        "            if False:\n",
        "placement/test_federate.py",
    ),
    core(
        "the price comes before the high-class GPUs",
        "placement/federate.py",
        "            high=classes[SubgroupClass.HIGH],\n",
        "            high=0,\n",
        "placement/test_federate.py",
    ),
    core(
        "others give GPUs that a quota forbids to take",
        "shortage.py",
        "    short = int(min(short, max(0, doors.own_in_all() - (asked - short))))\n",
        "",
        "test_shortage.py",
    ),
    core(
        "nobody gives of a quota that others use up",
        "shortage.py",
        "min(count, doors.free(name, gpu_type))",
        "min(count, doors.own(name))",
        "test_shortage.py",
    ),
    core(
        "a new coordinator gives up at once what agents may be starting",
        "subclusters.py",
        "    return heard or draft.now - state.started_at >= state.rules.cover_for\n",
        "    return True\n",
        "test_subclusters.py",
    ),
)
