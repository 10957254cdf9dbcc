"""What the end of a role switch means to its service: which counts are wanted, when the next may be."""

from __future__ import annotations

from dataclasses import replace

from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Command, CommandState, Service, Verb

MOST_WAITS = 8.0
"""So many cooldowns the next switch of a role waits at most, after some that failed."""


def switched(draft: Draft, command: Command) -> None:
    """Note in the service's memory how a role switch ended; other commands mean nothing to it.

    Where an instance did not switch, the counts of before are wanted: else another one would follow it.
    """
    instance, service = draft.instance(command.instance_id), draft.service(command.service)
    if command.verb is not Verb.SWITCH_ROLE or service is None:
        return
    done = command.state is CommandState.DONE
    service = replace(service, memory=_remembered(service, draft.now, done=done))
    draft.put_service(service)
    if done or instance is None or command.role in (None, instance.role):
        return
    wanted = dict(service.memory.wanted)
    for role, more in ((command.role, -1), (instance.role, 1)):
        spec = service.spec.roles.get(role)
        if spec is not None and role in wanted:
            wanted[role] = min(spec.max, max(spec.min, wanted[role] + more))
    draft.put_service(replace(service, memory=replace(service.memory, wanted=wanted)))


def _remembered(service: Service, now: float, *, done: bool) -> PolicyMemory:
    """Return the memory after a switch of a role: one that failed is tried again later."""
    failures = 0 if done else service.memory.ratio.switch_failures + 1
    wait = service.spec.policy.ratio_guard.switch_cooldown * min(2.0 ** (failures - 1), MOST_WAITS)
    until = 0.0 if done else now + wait
    ratio = replace(service.memory.ratio, switch_failures=failures, switch_after=until)
    return replace(service.memory, ratio=ratio)
