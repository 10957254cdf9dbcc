"""Books who held which GPUs, and in which state, as it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.world.twin import ENDED, Twin

MINUTE = 60


class Ledger:
    """Intervals of every state that holds GPUs, in the order in which they end."""

    def __init__(self) -> None:
        self._closed: list[Interval] = []

    def leave(self, twin: Twin, now: float) -> None:
        """Book the state that ``twin`` is about to leave."""
        if twin.state not in ENDED and now > twin.since:
            self._closed.append(_interval(twin, now))

    def intervals(self, standing: Iterable[Twin], end: float) -> tuple[Interval, ...]:
        """Return all, with those of the standing as far as they have come, cut off at ``end``."""
        booked = [*self._closed, *(_interval(twin, end) for twin in standing)]
        cut = (replace(one, end=min(one.end, end)) for one in booked if one.begin < end)
        return tuple(sorted(cut, key=lambda one: (one.begin, one.instance_id, one.end)))


def _interval(twin: Twin, end: float) -> Interval:
    order = twin.order
    return Interval(
        order.service,
        order.instance_id,
        order.role,
        order.gpu_type,
        twin.gpus,
        twin.state,
        twin.since,
        max(end, twin.since),
    )


def counts_by_minute(
    intervals: Iterable[Interval], seconds: int
) -> Mapping[tuple[Role, InstanceState], Floats]:
    """Return the mean number of instances in each minute, by role and state.

    The last minute may be short; its mean is over the seconds it has.
    """
    minutes = -(-seconds // MINUTE)
    starts = np.arange(minutes) * float(MINUTE)
    lengths = np.minimum(starts + MINUTE, seconds) - starts
    found: dict[tuple[Role, InstanceState], Floats] = {}
    for one in intervals:
        series = found.setdefault((one.role, one.state), np.zeros(minutes))
        first, last = int(one.begin // MINUTE), min(minutes - 1, int(one.end // MINUTE))
        part = slice(first, last + 1)
        ends = starts[part] + lengths[part]
        shared = np.minimum(ends, one.end) - np.maximum(starts[part], one.begin)
        series[part] += np.maximum(shared, 0.0) / lengths[part]
    return found
