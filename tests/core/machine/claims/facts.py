"""What claims read of a turn, and what they remember of the turns before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from heteroscale.words import InstanceState as S
from heteroscale.words import Role, WithdrawReason
from heteroscale_coordinator.core.model import Action, Command, Decision, Instance, Service, Verb
from tests.core.machine.unruly import Turn

ADDING = frozenset({Action.SCALE_OUT, Action.REPAIR})
STARTING = frozenset({S.PENDING, S.LAUNCHING, S.WARMING})
HOLDING_GPUS = STARTING | {S.IN_SERVICE, S.WITHDRAWN, S.DRAINING, S.UNKNOWN}


@dataclass
class Ledger:
    """What happened so far, by the decisions that were acted on."""

    launched: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Launches ordered, by instance and rank."""

    changed_at: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a law last changed a service's counts, by service and kind of change."""

    def note(self, turn: Turn) -> None:
        """Add one turn; what a service did that is deleted is no matter of the next of its name."""
        known = turn.state.services
        self.changed_at = {key: at for key, at in self.changed_at.items() if key[0] in known}
        for service, decision in acted(turn):
            if kind := self.kind(decision):
                self.changed_at[service.name, kind] = turn.now
        for command in issued(turn):
            if command.verb is Verb.LAUNCH:
                self.launched[command.instance_id, command.rank] += 1

    @staticmethod
    def kind(decision: Decision) -> str:
        """Return how a law changes the counts; empty: what is wanted is restored, or the clock asks."""
        if decision.bound_by == "schedule":
            return ""
        if decision.action is Action.SCALE_OUT and decision.bound_by == "placement":
            return "part out"  # what found no place of it is asked for again at once
        if decision.action is Action.SCALE_OUT:
            guard = decision.reason.lower().startswith("in breach")
            return "guard out" if guard else "demand out"
        return "in" if decision.action is Action.SCALE_IN else ""


def acted(turn: Turn) -> Iterator[tuple[Service, Decision]]:
    """Yield the decisions that were carried out, with their service."""
    for decision in turn.changes.decisions:
        service = turn.state.services.get(decision.service)
        if service is not None and not decision.advisory and decision.action is not Action.HOLD:
            yield service, decision


def issued(turn: Turn) -> Iterator[Command]:
    """Yield the commands that are new in this turn."""
    for command_id, command in turn.changes.commands.items():
        if command is not None and command_id not in turn.commands:
            yield command


def instances(turn: Turn, service: str, *, decided: bool = True) -> list[Instance]:
    """Return a service's instances after the turn; without ``decided``, as its decision saw them."""
    new = {
        one
        for decision in turn.changes.decisions
        if decision.action in ADDING and not decided
        for one in decision.instance_ids
    }
    return [i for i in turn.state.of_service(service) if i.instance_id not in new]


def supplies(instance: Instance) -> bool:
    """Return whether an instance serves, is about to, or may be serving out of our hearing."""
    if instance.state is S.WITHDRAWN:
        return instance.reason is WithdrawReason.RATIO_HOLD
    return instance.state in STARTING or instance.state in (S.IN_SERVICE, S.UNKNOWN)


def count(found: list[Instance]) -> Counter[Role]:
    """Return how many of each role."""
    return Counter(instance.role for instance in found)


def present_before(turn: Turn, service: Service) -> Counter[Role]:
    """Return what supplied when the turn decided, each role named; one that switches is the new one."""
    orders = turn.state.commands.values()
    switching = {
        c.instance_id: c.role for c in orders if c.verb is Verb.SWITCH_ROLE and not c.ended
    }
    found: Counter[Role] = Counter(dict.fromkeys(service.spec.roles, 0))
    for instance in instances(turn, service.name, decided=False):
        role = switching.get(instance.instance_id)
        movable = instance.state in (S.IN_SERVICE, S.WITHDRAWN)
        if role is not None and role is not instance.role and movable:
            found[role] += 1
        elif supplies(instance):
            found[instance.role] += 1
    return found
