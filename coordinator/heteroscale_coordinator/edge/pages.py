"""Instances in pages. A page ends with a place in their order, not with a number: they come and go."""

from __future__ import annotations

import json
from heapq import nsmallest
from math import isfinite

from heteroscale_coordinator.core.model import Instance
from heteroscale_coordinator.core.state import State

MOST = 1000
"""Instances in one page: about half a megabyte, of the four that an answer may have."""
LONGEST_TOKEN = 2048

Place = tuple[str, str, float, str]
"""Service, role, time of creation, id."""


def place_of(instance: Instance) -> Place:
    """Return where an instance stands in the order of all."""
    return (instance.service, instance.role.value, instance.created_at, instance.instance_id)


def token_of(instance: Instance) -> str:
    """Return the token of the page that begins after an instance."""
    return json.dumps(place_of(instance), separators=(",", ":"))


def place_in(token: str, service: str) -> Place | None:
    """Return where a page of a service's instances, or of all, begins; None: at the first.

    Raises:
        ValueError: it is no token, or one of another service's pages.

    """
    if not token:
        return None
    if len(token) > LONGEST_TOKEN:
        raise ValueError(_said(token))
    try:
        found = json.loads(token)
    except (ValueError, RecursionError) as error:
        raise ValueError(_said(token)) from error
    match found:
        case [str(of), str(role), int() | float() as at, str(instance_id)]:
            place = (of, role, _seconds(at), instance_id)
        case _:
            raise ValueError(_said(token))
    if not isfinite(place[2]) or service not in ("", of):
        raise ValueError(_said(token))
    return place


def _seconds(at: float) -> float:
    try:
        return float(at)
    except OverflowError:
        return float("inf")


def _said(token: str) -> str:
    return f"page_token {token[:80]!r} is no next_page_token of this list; begin anew without one"


def page(state: State, service: str, size: int, after: Place | None) -> tuple[list[Instance], str]:
    """Return at most ``size`` instances from a place on, and the token of what follows; empty: nothing.

    Only the services that the page shows are looked at, for there may be a hundred thousand instances.
    """
    found: list[Instance] = []
    for name in [service] if service else state.with_instances():
        if after is not None and name < after[0]:
            continue
        here = (one for one in state.of_service(name) if after is None or place_of(one) > after)
        found += nsmallest(size + 1 - len(found), here, key=place_of)
        if len(found) > size:
            return found[:size], token_of(found[size - 1])
    return found, ""
