"""What a trigger's metadata asks for, and the answer from what is committed; every refusal says the fix.

What is unknown is an error, never a number: KEDA then keeps the replicas as they are, or falls back as
its ScaledObject says. Zero would take them away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import grpc

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.edge.guard import words
from heteroscale_coordinator.edge.ports import Decisions, Loop

TARGET = 1.0
"""Of type AverageValue: replicas = ⌈count ÷ 1⌉, whatever stands."""
STALE_S = 60.0
"""A loop that has taken no turn for so long decides nothing any more."""
_NAMED = 5
"""Services named in an error at most."""
_LETTERS = 63
"""Of what a trigger wrote, said again: as long as a name may be."""


class RefusedError(Exception):
    """Why there is no answer, as a gRPC status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Trigger:
    """One role of one service, as a trigger names it."""

    service: str
    role: Role

    @property
    def metric(self) -> str:
        """The name of its metric."""
        return f"heteroscale-{self.role.value}-{self.service}"


@dataclass(frozen=True, slots=True)
class Asked:
    """How many instances of a role are asked for, by which generation of the joint decision."""

    count: int
    generation: int


def trigger_of(metadata: Mapping[str, str], loop: Loop) -> Trigger:
    """Return what the metadata names, of a service that is scaled by others.

    Raises:
        RefusedError: a field is missing or wrong, or the service is not for others to scale.

    """
    name = _field(metadata, "service", "the name of a service (`service: chat`)")
    role = _field(metadata, "role", "`prefill` or `decode`")
    service = loop.state.services.get(name)
    if service is None or service.deleting:
        raise RefusedError(
            grpc.StatusCode.NOT_FOUND,
            f"metadata `service`: no service {_short(name)!r} here"
            + _known(one.name for one in loop.state.services.values() if not one.deleting),
        )
    if role not in service.spec.roles:
        names = ", ".join(service.spec.roles)
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"metadata `role`: {_short(role)!r} is no role of service {name!r}: write one of {names}",
        )
    if not service.spec.external:
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"service {name!r} is scaled by the coordinator itself, and two would fight: write "
            "`actuation: {by: external}` into its spec, or delete this ScaledObject",
        )
    return Trigger(name, Role(role))


def asked_for(trigger: Trigger, loop: Loop, decisions: Decisions) -> Asked:
    """Return how many instances are asked for.

    Raises:
        RefusedError: that is not known, or nobody is asked now.

    """
    service = loop.state.services[trigger.service]
    known = service.memory.external
    if why := _unasked(service) or _stalled(loop):
        raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"service {service.name!r} {why}")
    if trigger.role not in known.counts:
        last = decisions.latest(service.name)
        first = "Nothing is asked for yet: the first decision comes within a tick."
        said = last.reason if last is not None else first
        raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"service {service.name!r}: {said}")
    return Asked(known.counts[trigger.role], known.generation)


def _unasked(service: Service) -> str:
    """Return why nobody is to follow the counts; empty: they hold."""
    if service.quarantine:
        return f"is left alone after an error: {service.quarantine}"
    if service.spec.advisory:
        return "only advises: set `advisory: false` in its spec, and apply it"
    if service.spec.learning:
        return "learns a target, and only advises: write the number that was learned"
    return ""


def _stalled(loop: Loop) -> str:
    status = loop.status()
    idle = status.now - loop.state.turned_at
    if status.stuck:
        return f"is not decided any more: {status.stuck}"
    return f"has not been looked at for {idle:.0f} s: the coordinator hangs" * (idle > STALE_S)


def _field(metadata: Mapping[str, str], name: str, what: str) -> str:
    value = metadata.get(name, "").strip()
    if value:
        return value
    folded = {key.lower(): key for key in metadata}
    alike = get_close_matches(name, folded, 1)
    found = folded[alike[0]] if alike else name
    hint = f"; `{_short(found)}` is there" if found != name else ""
    state = "is empty" if name in metadata else "is missing"
    raise RefusedError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"metadata `{name}` {state}{hint}: write {what} into the trigger's metadata",
    )


def _short(text: str) -> str:
    return words(text)[:_LETTERS]


def _known(names: Iterable[str]) -> str:
    found = sorted(names)
    if not found:
        return ": none is applied yet (`heteroscale apply`)"
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f": it knows {', '.join(found[:_NAMED])}{more}"
