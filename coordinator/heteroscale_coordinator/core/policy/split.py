"""A prefill that is split into attention and ffn, as the laws see it (disaggregated MoE; paper §4).

Attention stands for prefill: it takes the requests, holds their KV cache and sends it to decode, so
what is measured, promised and sized of prefill is attention's. Ffn has no demand of its own: it follows
its attention by ``innerRatio``, as prefill follows decode by ``ratio``. So the laws know a prefill and
what goes along with it; here names are changed at the door, on the way in and on the way out.

What a policy remembers under ``prefill`` of such a service (a breach, a forecast) is attention's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Counts, Verdict
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.view import Member, ServiceView
from heteroscale_coordinator.core.spec import ServiceSpec

T = TypeVar("T")
_IN = {Role.ATTENTION: Role.PREFILL}
_OUT = {Role.PREFILL: Role.ATTENTION}
_COUNTED = re.compile(r"(?<![\w.])([+-]?\d+) prefill\b")


def plain_spec(spec: ServiceSpec) -> ServiceSpec:
    """Return the specification with attention as its prefill; any other as it is."""
    if Role.ATTENTION not in spec.roles:
        return spec
    return spec.model_copy(update={"roles": plain(spec.roles)})


def plain(of_roles: Mapping[Role, T]) -> dict[Role, T]:
    """Return what is told of roles with that of attention under prefill."""
    return {_IN.get(role, role): value for role, value in of_roles.items()}


def named(of_roles: Mapping[Role, T]) -> dict[Role, T]:
    """Return what is told of roles with that of prefill under attention."""
    return {_OUT.get(role, role): value for role, value in of_roles.items()}


def plain_view(view: ServiceView) -> ServiceView:
    """Return the view of a service with attention as its prefill; any other as it is."""
    if not view.spec.split:
        return view
    short = view.short and replace(view.short, useful=plain(view.short.useful))
    return replace(
        view,
        spec=plain_spec(view.spec),
        members=tuple(_plain_member(member) for member in view.members),
        memory=replace(view.memory, wanted=plain(view.memory.wanted)),
        makes=plain(view.makes),
        short=short,
    )


def _plain_member(member: Member) -> Member:
    role = member.instance.role
    if role not in _IN:
        return member
    return replace(member, instance=replace(member.instance, role=_IN[role]))


def named_verdict(verdict: Verdict, spec: ServiceSpec) -> Verdict:
    """Return the verdict on a view made plain, in the service's own names; any other as it is."""
    if not spec.split:
        return verdict
    return replace(
        verdict,
        reason=_spoken(verdict.reason),
        cause=_spoken(verdict.cause),
        inputs={name: _spoken(text) for name, text in verdict.inputs.items()},
        memory=_named_memory(verdict.memory),
        done=_named_memory(verdict.done),
        delta=named(verdict.delta),
        before=named(verdict.before),
        hold=named(verdict.hold),
    )


def _named_memory(memory: PolicyMemory) -> PolicyMemory:
    return replace(memory, wanted=named(memory.wanted))


def _spoken(text: str) -> str:
    """Return a text whose counted prefill instances bear their name: ``2 prefill``, ``2 attention``."""
    return _COUNTED.sub(r"\1 attention", text)


def followed(counts: Counts, spec: ServiceSpec) -> dict[Role, int]:
    """Return counts in the service's own names with ffn as its attention asks for; others as they are."""
    found = dict(counts)
    if not spec.split or spec.inner_ratio is None or Role.ATTENTION not in found:
        return found
    rules, band = spec.roles[Role.FFN], spec.inner_ratio.turned()
    wish = ratio.prefill_for(found[Role.ATTENTION], found.get(Role.FFN, rules.min), band)
    return {**found, Role.FFN: min(max(wish, rules.min), rules.max)}
