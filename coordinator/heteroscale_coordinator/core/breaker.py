"""The circuit breaker on launches: of one service, for each node and each GPU type.

    closed ── failures in a row ──▶ open ── its time is up ──▶ half-open ── one trial ──▶ closed
                                     ▲                                          │
                                     └────────────── failed, doubled ───────────┘

Beside it, a node where just one launch failed is passed over for a while where another has room. A
policy knows nothing of this: it is told what placement may not use (``Barred``), in words.

A GPU type opens by failures at different nodes, so that one bad node does not condemn its type. What
closes a breaker is proof, not a start: an engine that becomes ready and dies at once is a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Barred:
    """What a service may not launch on now, why in words, and where only one instance may be tried."""

    nodes: Mapping[str, str]
    types: Mapping[str, str]
    trial_nodes: frozenset[str] = frozenset()
    trial_types: frozenset[str] = frozenset()
    """One instance on each node that has the type."""

    @property
    def text(self) -> str:
        """What is closed, in words; empty: nothing is."""
        closed = [f"node {name}: {why}" for name, why in sorted(self.nodes.items())]
        closed += [f"GPU type {name}: {why}" for name, why in sorted(self.types.items())]
        return "; ".join(closed)


NOTHING_BARRED = Barred({}, {})


def barred(
    memory: PolicyMemory, spec: BreakerSpec, instances: Iterable[Instance], now: float
) -> Barred:
    """Return what the breakers close, and where a trial may go.

    A trial is under way, and no second one goes beside it, until it is proven or has failed.
    """
    kept = memory.stability
    if not kept.nodes and not kept.types:
        return NOTHING_BARRED
    trying = [one for one in instances if one.state in LIVE_STATES]
    nodes, trial_nodes = {}, set()
    for name, breaker in kept.nodes.items():
        there = (one for one in trying if any(rank.agent_id == name for rank in one.ranks))
        why = _closed(breaker, spec, there, now)
        if why:
            nodes[name] = why
        elif breaker.until is not None:
            trial_nodes.add(name)
    types, trial_types = {}, set()
    for name, breaker in kept.types.items():
        why = _closed(breaker, spec, (one for one in trying if one.gpu_type == name), now)
        if why:
            types[name] = why
        elif breaker.until is not None:
            trial_types.add(name)
    return Barred(nodes, types, frozenset(trial_nodes), frozenset(trial_types))


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
    memory: PolicyMemory, spec: BreakerSpec, instances: Iterable[Instance], now: float
) -> PolicyMemory:
    """Return the memory with what has been proven since its last failure closed and forgotten."""
    kept = memory.stability
    if not (kept.nodes or kept.types or memory.launch_failures):
        return memory
    serving = [one for one in instances if one.state is InstanceState.IN_SERVICE]
    nodes = {
        name: breaker
        for name, breaker in kept.nodes.items()
        if not any(
            proves(one, breaker.failed_at, spec, now)
            for one in serving
            if any(rank.agent_id == name for rank in one.ranks)
        )
    }
    types = {
        name: breaker
        for name, breaker in kept.types.items()
        if not any(
            proves(one, breaker.failed_at, spec, now) for one in serving if one.gpu_type == name
        )
    }
    well = any(proves(one, memory.launch_failed_at, spec, now) for one in serving)
    return replace(
        memory,
        launch_failures=0 if well else memory.launch_failures,
        stability=replace(kept, nodes=nodes, types=types),
    )


def after_failure(
    memory: PolicyMemory, spec: BreakerSpec, rules: Rules, failed: Instance, now: float
) -> PolicyMemory:
    """Return the memory after a launch came to nothing: backoff, the node passed over, breakers."""
    agents = [rank.agent_id for rank in failed.ranks if rank.agent_id]
    memory = replace(
        counted(memory, spec, failed, now), avoid=passed_over(memory, rules, agents, now)
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


def counted(memory: PolicyMemory, spec: BreakerSpec, failed: Instance, now: float) -> PolicyMemory:
    """Return the memory with one more failure at the instance's nodes and on its GPU type."""
    kept = memory.stability
    nodes, types = dict(kept.nodes), dict(kept.types)
    agents = [rank.agent_id for rank in failed.ranks if rank.agent_id]
    for agent_id in agents:
        before = nodes.get(agent_id, Breaker())
        if before.failures and failed.created_at < before.failed_at:
            continue  # launched beside the one that failed before it
        after = replace(before, failures=before.failures + 1, failed_at=now)
        nodes[agent_id] = _tripped(after, spec, failed, now)
    if failed.gpu_type:
        before = types.get(failed.gpu_type, Breaker())
        where = tuple(dict.fromkeys((*before.where, *agents)))[: spec.failures + 1]
        after = replace(before, failures=len(where), failed_at=now, where=where)
        types[failed.gpu_type] = _tripped(after, spec, failed, now)
    return replace(memory, stability=replace(kept, nodes=nodes, types=types))


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
    kept = replace(memory.stability, nodes={}, types={})
    return replace(memory, launch_failures=0, launch_after=0.0, avoid={}, stability=kept)
