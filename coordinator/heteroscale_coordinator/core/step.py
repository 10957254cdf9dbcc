"""The turn: events in, changes and effects out. Deterministic; no clock, no I/O, no randomness.

Facts are folded first, then time is told (silence, deadlines), then the services that are due are
evaluated one by one, and what they ask of placement is answered in one cycle (``placing``), in pieces:
then the next turn goes on where this one ended. A service whose part raises is quarantined with the
reason, its instances untouched, and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from heteroscale_coordinator.core import (
    clusters,
    duties,
    fleet,
    placing,
    renewal,
    shortage,
    silence,
    sites,
    subclusters,
    within,
)
from heteroscale_coordinator.core.command import expire
from heteroscale_coordinator.core.draft import Draft, Mint
from heteroscale_coordinator.core.evaluate import evaluate
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    Changes,
    ClusterTold,
    CommandAnswered,
    Event,
    InventoryLearned,
    NodeGone,
    NodeTold,
    RankChanged,
    RenewLeases,
    ReportReceived,
    Tick,
)
from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.core.quarantine import alone
from heteroscale_coordinator.core.shortage import Lack
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.wishes import grant

SPREAD = 10
"""Services are spread over so many parts of a tick."""


def step(state: State, events: Sequence[Event], now: float, mint: Mint) -> Changes:
    """Take one turn over ``events`` at ``now`` and return what it changes.

    The caller commits the changes, gives them to ``state.apply``, and only then dispatches.
    """
    silence.excuse_own_absence(state, now)
    state.seen.begin_turn()
    draft = Draft(state, now, mint)
    try:
        _take(draft, events)
    finally:
        sites.settle(draft)
    return draft.changes


def _take(draft: Draft, events: Sequence[Event]) -> None:
    ticked = False
    for event in events:
        if isinstance(event, Tick):
            ticked = True
        else:
            _fold(draft, event)
    if ticked:
        _tell_time(draft)
        if not draft.state.placing:
            short = shortage.lacks(draft)
            for name in due(draft.state, draft.now):
                _turn_of(draft, name, short)
    placing.carry_on(draft)
    sites.catch_up(draft)


def _fold(draft: Draft, event: Event) -> None:
    match event:
        case ReportReceived():
            fleet.reported(draft, event)
        case RankChanged():
            fleet.rank_changed(draft, event)
        case CommandAnswered():
            fleet.answered(draft, event)
        case AgentConnected():
            fleet.connected(draft, event)
        case AgentDisconnected():
            fleet.disconnected(draft, event)
        case InventoryLearned():
            fleet.inventory_learned(draft, event)
        case NodeTold() | NodeGone() | ClusterTold():
            clusters.told(draft, event)
        case Tick():
            pass
        case _:
            grant(draft, event)


def _tell_time(draft: Draft) -> None:
    within.forget_ended(draft)
    silence.age(draft)
    draft.state.silent_sub_clusters = subclusters.silent(draft.state)
    subclusters.take_back(draft)
    for command in expire(draft):
        fleet.expired(draft, command)
    duties.clean_up(draft)


def due(state: State, now: float) -> list[str]:
    """Return the services to evaluate now: a share of those due, highest priority first.

    Half of the share is for who waits longest: where cycles of placement take so long that not all are
    reached in a tick, the highest are due again before the lowest were looked at once.
    """
    tick = state.rules.tick
    never = -tick
    waiting = [
        service
        for service in state.services.values()
        if now - state.evaluated_at.get(service.name, never) >= tick * (1 - 1 / SPREAD)
    ]
    waiting.sort(key=lambda s: (-s.spec.priority, state.evaluated_at.get(s.name, never), s.name))
    share = len(state.services) // SPREAD + 1
    names = [service.name for service in waiting]
    longest = sorted(names[share:], key=lambda name: state.evaluated_at.get(name, never))
    chosen = {*names[:share], *longest[:share]}
    return [name for name in names if name in chosen]


def _turn_of(draft: Draft, name: str, short: Sequence[Lack]) -> None:
    draft.state.evaluated_at[name] = draft.now
    service = draft.service(name)
    if service is None or service.quarantine:
        return
    alone(draft, name, partial(_attend, service=service, short=short))


def _attend(draft: Draft, service: Service, short: Sequence[Lack]) -> None:
    duties.attend(draft, service)
    renewal.attend(draft, service)
    if (now := draft.service(service.name)) is not None:
        evaluate(draft, now, short)


def renewals(state: State, now: float) -> list[RenewLeases]:
    """Return the lease renewals of the committed state; due each tick, commit or no commit."""
    return duties.leases(Draft(state, now, _no_mint))


def _no_mint(kind: str) -> str:
    raise RuntimeError(f"renewals make no new {kind}")
