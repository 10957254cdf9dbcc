"""What must have come to its end once all has been well and quiet for long."""

from __future__ import annotations

from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core.model import Action, CommandState, Verb
from tests.core.machine.unruly import UnrulyWorld


def every_withdrawn_instance_ends_in_service_or_terminated(world: UnrulyWorld) -> None:
    for instance in world.state.instances.values():
        # One that a scale-in of just now has taken out has not come to its end yet.
        out = instance.state is S.WITHDRAWN
        text = (
            f"{instance.instance_id} {instance.state} since {world.now - instance.changed_at:g} s"
        )
        assert not out or world.now - instance.changed_at < WHILE, text
        assert instance.state is not S.UNKNOWN, text


def no_order_is_left_open(world: UnrulyWorld) -> None:
    engines = {key: e for agent in world.agents.values() for key, e in agent.engines.items()}
    # A drain waits for what is in flight, however long that takes.
    busy = {key for key, engine in engines.items() if engine.running + engine.waiting > 0}
    for command in world.state.commands.values():
        accepted = command.state is CommandState.ACCEPTED
        if accepted and command.verb is Verb.DRAIN and command.instance_id in busy:
            continue
        old = world.now - command.created_at > WHILE
        open_still = command.state in (CommandState.OPEN, CommandState.ACCEPTED)
        assert not (old and open_still), f"{command.verb} {command.command_id} {command.state}"


def what_is_known_is_what_runs(world: UnrulyWorld) -> None:
    running = {key for agent in world.agents.values() for key in agent.engines}
    ended = (S.TERMINATED, S.FAILED, S.LOST)
    known = {i.instance_id for i in world.state.instances.values() if i.state not in ended}
    assert known == running, f"known only: {known - running}, running only: {running - known}"


def counts_are_inside_the_bounds(world: UnrulyWorld) -> None:
    for service in world.state.services.values():
        if service.spec.advisory or service.deleting:
            continue
        for role, spec in service.spec.roles.items():
            serving = world.serving(role)
            assert serving <= spec.max, f"{serving} {role} in service, max {spec.max}"


def equal_holds_cost_no_commit(world: UnrulyWorld) -> None:
    """Where nothing but holds was decided lately, next to nothing was written.

    Rows of orders and instances that have ended are forgotten in their own time, and do not count.
    """
    begin = world.now - LATELY
    lately = [d for d in world.decisions if d.at >= begin]
    if any(d.action is not Action.HOLD for d in lately):
        return
    written = [what for at, what in world.written if at >= begin and what]
    assert len(written) <= FEW, f"{LATELY:g} s of holds wrote {', '.join(written)}"


LATELY, FEW = 40.0, 9
"""Seconds that are looked at, of twenty evaluations; what laws remember of them by the way: a slot of
demand each half of ``windowIn`` at most (seven), and a little besides."""
WHILE = 100.0
"""Seconds in which the last things that a quiet fleet does may still be under way."""
AT_THE_END = (
    every_withdrawn_instance_ends_in_service_or_terminated,
    no_order_is_left_open,
    what_is_known_is_what_runs,
    counts_are_inside_the_bounds,
    equal_holds_cost_no_commit,
)
