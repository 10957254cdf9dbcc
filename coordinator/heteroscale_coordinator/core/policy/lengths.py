"""Targets at the lengths of the day: tokens of long prompts take longer, at prefill and at decode.

A target is measured at some mix of requests. Where it is known at other lengths too
(``targetByPrompt``), every instance is counted at the factor of the mean prompt. Lengths drift over
minutes; what moves within one is chance, and counts that followed it would flap. So prompts are added
up for minutes, older ones fading, and of few requests the mean is believed by how many there were.
What nobody tells changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.demand import LengthsPast
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import Sum, reckon

DOUBTED = 30.0
"""Requests by which the factor of their mean is half believed."""
SLOT = 30.0
"""Seconds after which prompts are added."""
FADING = 180.0
"""Seconds in which what was added fades to a third (e)."""
FORGOTTEN = 600.0
"""Seconds without a prompt after which what was before says nothing."""
BEYOND = 2.0
"""Means count to this multiple of the longest prompts with a factor: a garbled one would last."""
ABSURD = 1e12
"""Requests that nobody serves in a window: a garbled reading, which says nothing."""

Engines = Mapping[Role, Sequence[Engine]]


@dataclass(frozen=True, slots=True)
class AtLength:
    """By what a role's targets are multiplied just now."""

    factor: float = 1.0
    sum: Sum | None = None
    """The factor as it was reckoned; None where nothing is known, or none is given."""


def at_lengths(engines: Engines, view: ServiceView) -> dict[Role, AtLength]:
    """Return each role's factor, by the prompts that prefill ended (or the one role there is)."""
    past, spec = view.memory.lengths, view.spec
    if past is None or not 0 <= view.now - past.at <= FORGOTTEN:
        past = _ended(engines, spec, view.now, spec.policy.window_in)
    return {role: _at_length(role, past, spec) for role in spec.roles}


def _at_length(role: Role, past: LengthsPast | None, spec: ServiceSpec) -> AtLength:
    rules = spec.roles[role]
    if past is None or not rules.target_by_prompt:
        return AtLength()
    prompt = past.tokens / past.requests
    found = reckon(
        "1 + (given - 1) * requests / (requests + doubted)",
        "",
        f"of the target, at {prompt:.0f} prompt tokens a request",
        given=rules.factor_at(prompt),
        requests=past.requests,
        doubted=DOUBTED,
    )
    return AtLength(found.value, found)


def lengths_past(engines: Engines, view: ServiceView) -> LengthsPast | None:
    """Return what is remembered of prompts, with those of a slot more when one is over."""
    past, now = view.memory.lengths, view.now
    if past is not None and not 0 <= now - past.at <= FORGOTTEN:
        past = None
    if past is not None and now - past.at < SLOT:
        return past
    length = view.spec.policy.window_in if past is None else now - past.at
    newest = _ended(engines, view.spec, now, length)
    if past is None or newest is None:
        return past or newest
    left = math.exp(-(now - past.at) / FADING)
    return LengthsPast(
        now, left * past.tokens + newest.tokens, left * past.requests + newest.requests
    )


def _ended(engines: Engines, spec: ServiceSpec, now: float, length: float) -> LengthsPast | None:
    """Return the prompts that ended in ``length`` s; None if none is known, or no role asks for them."""
    longest = max((max(one.target_by_prompt, default=0) for one in spec.roles.values()), default=0)
    if not longest:
        return None
    role = Role.PREFILL if Role.PREFILL in spec.roles else spec.sizing_role
    mean, ended = signals.quotient(engines[role], "prompt_tokens", "requests_finished", length)
    if mean is None or not ended < ABSURD:
        return None
    return LengthsPast(now, min(mean, BEYOND * longest) * ended, ended)
