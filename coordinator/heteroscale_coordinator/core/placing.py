"""The turn's cycle of placement: what services ask in a turn is placed together, by priority, in pieces.

Small cycles begin and end within one turn. A large one takes several, for a turn seeks so many places and
no more, and reports are folded in between; until it is over no service is evaluated. What a cycle found
is held in the view, checked against the view when it is handed over, and handed over in order of
priority, so that a lower one never keeps what a higher one needs after all. An answer is dropped, and its
service evaluated anew, when the service is not what it was when it asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from heteroscale_coordinator.core import carry, launching, sites
from heteroscale_coordinator.core.asked import Asked, Question
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.placement import Cycle, Outcome, Request
from heteroscale_coordinator.core.quarantine import alone, quarantine

PLACES = 10
"""Places that one turn seeks: some five milliseconds on 10,000 nodes. Making room may add 60."""
ANSWERS = 20
"""Answers that one turn carries out: some ten milliseconds more."""
ROUNDS = 3
"""Where the fleet changes under a cycle more often, what is left is asked anew in a cycle of its own."""
PATIENCE = 200
"""Turns that a cycle waits for the fleet to be read, 50,000 nodes: then one long turn reads what is left.
Where nodes change faster than turns read them no service would be looked at ever again."""


def carry_on(draft: Draft) -> None:
    """Do a turn's piece of the cycle; it waits a while where much of the fleet is still to be read."""
    asked = draft.state.asked
    if not asked.questions:
        return
    if asked.waited < PATIENCE and sites.behind(draft):
        asked.waited += 1
        return
    try:
        _piece(draft, asked)
    except Exception:
        # It would be raised again in every turn, and no turn would ever be committed.
        asked.close()
        raise


def _piece(draft: Draft, asked: Asked) -> None:
    view = sites.view(draft)
    if asked.cycle is None:
        vendors = draft.state.seen.vendors()
        requests = (one.request for one in asked.questions.values())
        asked.cycle = Cycle(view, [_of_vendors(one, vendors) for one in requests])
    try:
        done = asked.cycle.advance(len(asked.questions), PLACES)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the others
        _without(draft, asked, asked.cycle, error)
        return
    if done:
        _commit(draft, asked, asked.cycle)


def _of_vendors(request: Request, vendors: Mapping[str, str]) -> Request:
    """Return a request that knows the vendors of GPU types: they are known when the fleet is read."""
    ask, *parts = (replace(ask, vendors=vendors) for ask in (request.ask, *request.parts))
    return replace(request, ask=ask, parts=parts)


def _commit(draft: Draft, asked: Asked, cycle: Cycle) -> None:
    outcomes = cycle.commit(ANSWERS)
    if outcomes is None:
        asked.rounds += 1
    for outcome in outcomes or ():
        _hand_over(draft, asked.questions.pop(outcome.request.ask.service), outcome)
    if asked.rounds > ROUNDS:
        for name in asked.questions:
            draft.state.evaluated_at.pop(name, None)
        asked.close()
    elif cycle.over:
        asked.close()


def _without(draft: Draft, asked: Asked, cycle: Cycle, error: Exception) -> None:
    """Quarantine the service that placement raises on, and begin anew without it."""
    cycle.end()
    asked.cycle = None
    asked.questions.pop(cycle.at, None)
    quarantine(draft, cycle.at, error)


def _hand_over(draft: Draft, question: Question, outcome: Outcome) -> None:
    name = question.service.name
    if _as_it_was(draft, question, outcome):
        alone(draft, name, partial(_carry_out, question=question, outcome=outcome))
    else:
        draft.state.evaluated_at.pop(name, None)


def _as_it_was(draft: Draft, question: Question, outcome: Outcome) -> bool:
    """Return whether a service, who it has and who would leave are what they were when it asked."""
    name = question.service.name
    if draft.service(name) != question.known or sites.members(draft, name) != question.members:
        return False
    leaving = outcome.victims.instance_ids if outcome.victims is not None else ()
    return all(carry.withdrawable(draft, instance_id) for instance_id in leaving)


def _carry_out(draft: Draft, question: Question, outcome: Outcome) -> None:
    if outcome.victims is not None:
        carry.withdraw(draft, question, outcome.victims)
    else:
        launching.launch(draft, question, outcome)
