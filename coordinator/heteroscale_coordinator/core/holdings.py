"""GPUs of a node that its cluster's scheduler gave to somebody, and so nobody is offered here.

Telemetry, told anew with every look and never stored. A scheduler often tells how many only: then the
highest indices that are left stand for them, for which ones is the scheduler's own choice anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple


class Held(NamedTuple):
    """GPUs that one job or pod has."""

    holder: str
    """In the scheduler's words."""
    gpus: int
    indices: tuple[int, ...] = ()
    """Which, where it is told."""
    instance_id: str = ""
    """Of which instance; empty: it is none of ours."""


def not_offered(
    holdings: Iterable[Held],
    known: Collection[int],
    taken: Collection[int],
    counted: Collection[str],
) -> dict[int, Held]:
    """Return the GPUs that are held beyond those ``taken`` by instances, and by whom.

    ``known``: the indices of the node's GPUs. ``counted``: instances whose GPUs are among ``taken``.
    """
    found: dict[int, Held] = {}
    left = set(known) - set(taken)
    others = sorted(
        one for one in holdings if one.instance_id not in counted or not one.instance_id
    )
    for one in others:
        for index in one.indices:
            if index in left:
                left.discard(index)
                found[index] = one
    for one in others:
        missing = one.gpus - sum(index in found for index in one.indices)
        for index in sorted(left, reverse=True)[: max(0, missing)]:
            left.discard(index)
            found[index] = one
    return found
