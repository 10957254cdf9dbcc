"""Orders and records: once, explained, storable, and a function of what was known."""

from __future__ import annotations

import json

from heteroscale.taints import TaintEffect
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Verb
from heteroscale_coordinator.edge.store.codec import decode, encode, to_text
from tests.core.machine.claims.facts import Ledger, issued
from tests.core.machine.unruly import Turn


def a_decision_is_a_function_of_its_inputs(turn: Turn, _: Ledger) -> None:
    if turn.again is not None:
        assert turn.again == turn.changes, "a second turn on a copy decides otherwise"


def nothing_is_launched_twice(turn: Turn, ledger: Ledger) -> None:
    for command in issued(turn):
        if command.verb is Verb.LAUNCH:
            before = ledger.launched[command.instance_id, command.rank]
            assert not before, f"{command.instance_id} rank {command.rank} was launched before"


def nothing_is_launched_on_what_is_cordoned(turn: Turn, _: Ledger) -> None:
    closed = {(one.agent_id, one.gpu) for one in turn.state.cordons.values()}
    for command in issued(turn):
        if command.verb is Verb.LAUNCH and command.instance_id in turn.state.instances:
            rank = turn.state.instances[command.instance_id].ranks[command.rank]
            taken = {(rank.agent_id, gpu) for gpu in (None, *rank.gpu_indices)}
            assert closed.isdisjoint(taken), f"{command.instance_id} on {rank}, closed: {closed}"


def nothing_is_launched_on_a_taint_that_is_not_tolerated(turn: Turn, _: Ledger) -> None:
    for command in issued(turn):
        if command.verb is Verb.LAUNCH and command.instance_id in turn.state.instances:
            one = turn.state.instances[command.instance_id]
            agent = turn.state.agents[one.ranks[command.rank].agent_id]
            tolerations = turn.state.services[one.service].spec.placement.tolerations
            for taint in agent.inventory.taints:
                known = any(each.tolerates(taint) for each in tolerations)
                soft = taint.effect is TaintEffect.PREFER_NO_SCHEDULE
                assert soft or known, (
                    f"{one.instance_id} on {agent.agent_id}, which carries {taint}"
                )


def every_decision_has_a_reason(turn: Turn, _: Ledger) -> None:
    for decision in turn.changes.decisions:
        assert decision.reason.strip(), f"{decision.decision_id} has no reason"
        assert decision.bound_by, f"{decision.decision_id}: {decision.reason}: bound by nothing"


def no_service_is_quarantined(turn: Turn, _: Ledger) -> None:
    """Nothing that the machine does may make the policy raise."""
    for service in turn.state.services.values():
        assert not service.quarantine, service.quarantine


def memory_survives_the_store(turn: Turn, _: Ledger) -> None:
    for name, service in turn.changes.services.items():
        if service is not None:
            text = to_text(encode(service.memory))
            back = decode(PolicyMemory, json.loads(text), name)
            assert back == service.memory, f"{service.memory} came back as {back}"


def an_order_expects_the_generation_that_was_told(turn: Turn, _: Ledger) -> None:
    for command in issued(turn):
        if command.verb is not Verb.LAUNCH:
            tables = (turn.instances, turn.state.instances)
            told = [table[command.instance_id] for table in tables if command.instance_id in table]
            # An order may stand before a fact of the same turn, or after it.
            known = {one.ranks[command.rank].generation for one in told}
            expects = command.expected_generation
            assert expects in known, f"{command.verb} expects {expects}, told were {known}"


ORDERS = (
    no_service_is_quarantined,
    a_decision_is_a_function_of_its_inputs,
    nothing_is_launched_twice,
    nothing_is_launched_on_what_is_cordoned,
    nothing_is_launched_on_a_taint_that_is_not_tolerated,
    every_decision_has_a_reason,
    memory_survives_the_store,
    an_order_expects_the_generation_that_was_told,
)
