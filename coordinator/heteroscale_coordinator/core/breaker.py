"""The circuit breaker on launches: of one service, for each node, GPU type and sub-cluster.

    closed ── failures in a row ──▶ open ── its time is up ──▶ half-open ── one trial ──▶ closed
                                     ▲                                          │
                                     └────────────── failed, doubled ───────────┘

Beside it, a node where just one launch failed is passed over for a while where another has room. A
policy knows nothing of this: it is told what placement may not use (``Barred``), in words.

A GPU type, or a sub-cluster, opens by failures at different nodes, so that one bad node does not condemn
its like. Sub-clusters have breakers where there are several: else nothing could stand in. What
closes a breaker is proof, not a start: an engine that becomes ready and dies at once is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.stability import Breaker
from heteroscale_coordinator.core.model import LIVE_STATES, Instance
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec.stability import BreakerSpec

MAX_BACKOFF = 30
"""Launch backoff grows to so many times ``rules.launch_backoff``; a failed launch's node is passed
over for as long."""
MAX_DOUBLINGS = 16


Home = Callable[[str], str]
"""The sub-cluster of an agent."""


def _unnamed(_agent_id: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Barred:
    """What a service may not launch on now, why in words, and where only one instance may be tried."""

    nodes: Mapping[str, str]
    types: Mapping[str, str]
    trial_nodes: frozenset[str] = frozenset()
    trial_types: frozenset[str] = frozenset()
    """One instance on each node that has the type."""
    sub_clusters: Mapping[str, str] = field(default_factory=dict)
    trial_sub_clusters: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """What is closed, in words; empty: nothing is."""
        closed = [f"node {name}: {why}" for name, why in sorted(self.nodes.items())]
        closed += [f"GPU type {name}: {why}" for name, why in sorted(self.types.items())]
        closed += [f"sub-cluster {name}: {why}" for name, why in sorted(self.sub_clusters.items())]
        return "; ".join(closed)


NOTHING_BARRED = Barred({}, {})


def barred(
    memory: PolicyMemory,
    spec: BreakerSpec,
    instances: Iterable[Instance],
    now: float,
    home: Home = _unnamed,
) -> Barred:
    """Return what the breakers close, and where a trial may go.

    A trial is under way, and no second one goes beside it, until it is proven or has failed.
    """
    kept = memory.stability
    if not kept.nodes and not kept.types and not kept.sub_clusters:
        return NOTHING_BARRED
    trying = [one for one in instances if one.state in LIVE_STATES]

    def look(
        breakers: Mapping[str, Breaker], stands: Callable[[Instance, str], bool]
    ) -> tuple[dict[str, str], frozenset[str]]:
        closed, trials = {}, set()
        for name, breaker in breakers.items():
            there = (one for one in trying if stands(one, name))
            if why := _closed(breaker, spec, there, now):
                closed[name] = why
            elif breaker.until is not None:
                trials.add(name)
        return closed, frozenset(trials)

    nodes, trial_nodes = look(kept.nodes, _on)
    types, trial_types = look(kept.types, lambda one, name: one.gpu_type == name)
    places, trial_places = look(kept.sub_clusters, lambda one, name: name in homes(one, home))
    refusing = {name: f"refusing: {why}" for name, why in places.items()}
    return Barred(nodes, types, trial_nodes, trial_types, refusing, trial_places)


def _on(instance: Instance, agent_id: str) -> bool:
    return any(rank.agent_id == agent_id for rank in instance.ranks)


def homes(instance: Instance, home: Home) -> set[str]:
    """Return the sub-clusters that an instance stands in: one, but for what others started."""
    return {home(rank.agent_id) for rank in instance.ranks if rank.agent_id}


def _closed(breaker: Breaker, spec: BreakerSpec, trying: Iterable[Instance], now: float) -> str:
    if breaker.until is None:
        return ""
    if now < breaker.until:
        return f"{breaker.failures} launches failed in a row, tried again in {breaker.until - now:.0f} s"
    newer = [one for one in trying if one.created_at >= breaker.until]
    if newer and not any(proves(one, breaker.failed_at, spec, now) for one in newer):
        return f"{breaker.failures} launches failed in a row, a trial is under way"
    return ""


def proves(instance: Instance, failed_at: float, spec: BreakerSpec, now: float) -> bool:
    """Return whether an instance got ready after ``failed_at`` and has served long enough."""
    if instance.state is not InstanceState.IN_SERVICE or instance.startup_time is None:
        return False
    ready_at = instance.created_at + instance.startup_time
    return ready_at > failed_at and now - max(ready_at, instance.changed_at) >= spec.proof


def proven(
    memory: PolicyMemory,
    spec: BreakerSpec,
    instances: Iterable[Instance],
    now: float,
    home: Home = _unnamed,
) -> PolicyMemory:
    """Return the memory with what has been proven since its last failure closed and forgotten."""
    kept = memory.stability
    if not (kept.nodes or kept.types or kept.sub_clusters or memory.launch_failures):
        return memory
    serving = [one for one in instances if one.state is InstanceState.IN_SERVICE]
    nodes = {
        name: breaker
        for name, breaker in kept.nodes.items()
        if not any(proves(one, breaker.failed_at, spec, now) for one in serving if _on(one, name))
    }
    types = {
        name: breaker
        for name, breaker in kept.types.items()
        if not any(
            proves(one, breaker.failed_at, spec, now) for one in serving if one.gpu_type == name
        )
    }
    places = {
        name: breaker
        for name, breaker in kept.sub_clusters.items()
        if not any(
            proves(one, breaker.failed_at, spec, now) for one in serving if name in homes(one, home)
        )
    }
    well = any(proves(one, memory.launch_failed_at, spec, now) for one in serving)
    return replace(
        memory,
        launch_failures=0 if well else memory.launch_failures,
        stability=replace(kept, nodes=nodes, types=types, sub_clusters=places),
    )


def after_failure(
    memory: PolicyMemory,
    spec: BreakerSpec,
    rules: Rules,
    failed: Instance,
    now: float,
    *,
    home: Home | None = None,
) -> PolicyMemory:
    """Return the memory after a launch came to nothing: backoff, the node passed over, breakers.

    ``home``: as for ``counted``.
    """
    agents = [rank.agent_id for rank in failed.ranks if rank.agent_id]
    memory = replace(
        counted(memory, spec, failed, now, home), avoid=passed_over(memory, rules, agents, now)
    )
    if memory.launch_failures and failed.created_at < memory.launch_failed_at:
        return (
            memory  # launched beside the one that failed before it: one failure, not two in a row
        )
    failures = memory.launch_failures + 1
    # The first failure of a row is replaced at once, elsewhere; the next ones wait, doubling.
    wait = 0.0 if failures == 1 else min(2.0 ** (failures - 2), MAX_BACKOFF) * rules.launch_backoff
    after = max(memory.launch_after, now + wait)
    return replace(memory, launch_failures=failures, launch_failed_at=now, launch_after=after)


def counted(
    memory: PolicyMemory,
    spec: BreakerSpec,
    failed: Instance,
    now: float,
    home: Home | None = None,
) -> PolicyMemory:
    """Return the memory with one more failure at the instance's nodes, GPU type and sub-cluster.

    ``home`` is given where several sub-clusters have that type. Then one sub-cluster is to blame
    itself, and its type only when another fails as well; else it is the type.
    """
    kept = memory.stability
    nodes = dict(kept.nodes)
    agents = [rank.agent_id for rank in failed.ranks if rank.agent_id]
    for agent_id in agents:
        before = nodes.get(agent_id, Breaker())
        if before.failures and failed.created_at < before.failed_at:
            continue  # launched beside the one that failed before it
        after = replace(before, failures=before.failures + 1, failed_at=now)
        nodes[agent_id] = _tripped(after, spec, failed, now)
    types, places = dict(kept.types), dict(kept.sub_clusters)
    if failed.gpu_type:
        after = _elsewhere_too(types.get(failed.gpu_type, Breaker()), spec, agents, now)
        everywhere = home is None or len({home(agent_id) for agent_id in after.where}) > 1
        types[failed.gpu_type] = _tripped(after, spec, failed, now) if everywhere else after
    for name in sorted(homes(failed, home)) if home is not None else ():
        after = _elsewhere_too(places.get(name, Breaker()), spec, agents, now)
        places[name] = _tripped(after, spec, failed, now)
    closed = replace(kept, nodes=nodes, types=types, sub_clusters=places)
    return replace(memory, stability=closed)


def _elsewhere_too(
    before: Breaker, spec: BreakerSpec, agents: Iterable[str], now: float
) -> Breaker:
    """Count the nodes at which it failed, no more than are needed; the newest is among them."""
    where = tuple(dict.fromkeys((*before.where, *agents)))
    where = (*where[: spec.failures], *where[spec.failures :][-1:])
    return replace(before, failures=len(where), failed_at=now, where=where)


def passed_over(
    memory: PolicyMemory, rules: Rules, agents: Iterable[str], now: float
) -> dict[str, float]:
    """Return the agents to use only where no other has room, until when; ``agents`` added."""
    until = now + MAX_BACKOFF * rules.launch_backoff
    kept = {agent: end_at for agent, end_at in memory.avoid.items() if end_at > now}
    return kept | dict.fromkeys(agents, until)


def _tripped(breaker: Breaker, spec: BreakerSpec, failed: Instance, now: float) -> Breaker:
    """Open it when that is enough. What was launched before it opened adds nothing to the time."""
    if breaker.failures < spec.failures:
        return breaker
    if breaker.until is not None and failed.created_at < breaker.until:
        return breaker
    length = min(spec.open * 2.0 ** min(breaker.openings, MAX_DOUBLINGS), spec.most_open)
    return replace(breaker, openings=breaker.openings + 1, until=now + length)


def forgiven(memory: PolicyMemory) -> PolicyMemory:
    """Return the memory with every breaker closed and no backoff: a person says that it is mended."""
    kept = replace(memory.stability, nodes={}, types={}, sub_clusters={})
    return replace(memory, launch_failures=0, launch_after=0.0, avoid={}, stability=kept)
