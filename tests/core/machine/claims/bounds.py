"""Minimum, maximum and budget: bounds always win."""

from __future__ import annotations

from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core.model import Action, Verb
from tests.core.machine.claims.facts import (
    ADDING,
    HOLDING_GPUS,
    Ledger,
    acted,
    count,
    instances,
    issued,
    supplies,
)
from tests.core.machine.unruly import Turn


def a_scale_in_leaves_the_minimum_in_service(turn: Turn, _: Ledger) -> None:
    leaving = {c.instance_id for c in issued(turn) if c.verb is Verb.WITHDRAW}
    for service, decision in acted(turn):
        if decision.action is Action.SCALE_IN:
            serving = [i for i in instances(turn, service.name) if i.state is S.IN_SERVICE]
            left = count([i for i in serving if i.instance_id not in leaving])
            for role in decision.delta:
                least = service.spec.roles[role].min
                assert left[role] >= least, f"{left[role]} {role} left in service, min {least}"


def nothing_is_launched_above_a_maximum(turn: Turn, _: Ledger) -> None:
    for service, decision in acted(turn):
        if decision.action in ADDING:
            present = count([i for i in instances(turn, service.name) if supplies(i)])
            for role in decision.delta:
                most = service.spec.roles[role].max
                assert present[role] <= most, f"{present[role]} {role} present, max {most}"


def nothing_is_taken_back_above_a_maximum(turn: Turn, _: Ledger) -> None:
    """What is still starting may be too many: it comes too late, and leaves again."""
    for service, decision in acted(turn):
        if decision.action is Action.REINSTATE:
            carrying = [
                i for i in instances(turn, service.name) if i.state in (S.IN_SERVICE, S.UNKNOWN)
            ]
            for role, more in decision.delta.items():
                after, most = count(carrying)[role] + more, service.spec.roles[role].max
                assert after <= most, f"{after} {role} with what is taken back, max {most}"


def nothing_is_launched_beyond_the_gpu_budget(turn: Turn, _: Ledger) -> None:
    for service, decision in acted(turn):
        budget = service.spec.max_gpus
        if decision.action in ADDING and budget is not None:
            found = [i for i in instances(turn, service.name) if i.state in HOLDING_GPUS]
            gpus = sum(len(rank.gpu_indices) for i in found for rank in i.ranks)
            assert gpus <= budget, f"{gpus} GPUs held, maxGpus {budget}"


def no_gpu_is_given_twice(turn: Turn, _: Ledger) -> None:
    ordered = {c.instance_id for c in issued(turn) if c.verb is Verb.LAUNCH}
    for instance_id in ordered:
        mine = turn.state.instances[instance_id]
        for rank in mine.ranks:
            for other in turn.state.of_agent(rank.agent_id):
                if other.instance_id == instance_id or other.state not in HOLDING_GPUS:
                    continue
                theirs = {
                    gpu
                    for place in other.ranks
                    if place.agent_id == rank.agent_id
                    for gpu in place.gpu_indices
                }
                both = theirs & set(rank.gpu_indices)
                assert not both, f"{instance_id} and {other.instance_id} share {both}"


BOUNDS = (
    a_scale_in_leaves_the_minimum_in_service,
    nothing_is_launched_above_a_maximum,
    nothing_is_taken_back_above_a_maximum,
    nothing_is_launched_beyond_the_gpu_budget,
    no_gpu_is_given_twice,
)
