"""How many whole instances each minute of a load needs, role by role, on the GPU types there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import (
    QUANTILE,
    Counts,
    Journey,
    Offer,
    decode_capacity,
)
from heteroscale_simulator.measures.minutes import Minutes
from heteroscale_simulator.measures.prefill_queue import PrefillQueue
from heteroscale_simulator.measures.schedule import Ladder
from heteroscale_simulator.traffic.load import Floats

_SLACK = 1e-9


@dataclass(frozen=True)
class Case:
    """A load, what may serve it, and the promise."""

    minutes: Minutes
    offers: Mapping[Role, Sequence[Offer]]
    """GPU types that prefill and decode may take."""
    journey: Journey
    fleet: Mapping[str, int] | None = None
    """GPUs by type; None: as many as are wanted."""
    peaks: Minutes | None = None
    """The same minutes as prefill meets them (``Minutes.busiest``); None: their means."""
    decode_peaks: Minutes | None = None
    """The same minutes as decode meets them; None: their means."""


def preferred(case: Case, role: Role) -> list[Offer]:
    """Return the role's GPU types that hold the SLO, fewest GPU-seconds per token first.

    Decode: at the run's mean context. Prefill: a type that is too slow for more than 1 % of the
    requests that the fastest type answers in time is left out.

    Raises:
        ValueError: there is none, with what the best one does.

    """
    return _prefill_offers(case) if role is Role.PREFILL else _decode_offers(case)


def prefill_queue(case: Case, offer: Offer) -> PrefillQueue:
    """Return the load's prompts before instances of ``offer``."""
    decode = preferred(case, Role.DECODE)[0].speed
    step = decode_capacity(decode, case.minutes.context, case.journey.slo.tbt).step
    return PrefillQueue(case.peaks or case.minutes, offer.speed, case.journey, step)


def prefill_need(case: Case, ladder: Ladder) -> tuple[Counts, Floats]:
    """Return prefill instances by minute, at least one, and 1 where the ladder is too short.

    Where a GPU type is used up, it serves as large a share of the minute's requests as it holds.
    """
    left = np.ones_like(case.minutes.seconds)
    count = np.zeros(len(left), dtype=np.int64)
    for offer, limit in ladder.rungs:
        queue = prefill_queue(case, offer)
        need = queue.need(left)
        if limit is None or (need <= limit).all():
            return np.maximum(count + need, 1), np.zeros_like(left)
        count += np.minimum(need, limit)
        left = np.where(need <= limit, 0.0, np.maximum(left - queue.held_share(limit), 0.0))
    return np.maximum(count, 1), (left > _SLACK).astype(np.float64)


def decode_need(case: Case, ladder: Ladder) -> tuple[Counts, Floats]:
    """Return decode instances by minute, at least one, and 1 where the ladder is too short.

    An instance takes in KV no faster than its link carries it, and is needed for that too.
    """
    minutes = case.decode_peaks or case.minutes
    left, share = minutes.output_rate, case.journey.carried
    coming = (case.peaks or case.minutes).prompt_rate
    count = np.zeros(len(left), dtype=np.int64)
    for offer, limit in ladder.rungs:
        rate = _decode_rate(case, offer, minutes)
        need = np.ceil(left / rate - _SLACK)
        need = np.maximum(need, np.ceil(coming / share - _SLACK))
        taken = need if limit is None else np.minimum(need, limit)
        count += taken.astype(np.int64)
        left = np.where(need <= taken, 0.0, left - taken * rate)
        coming = np.where(need <= taken, 0.0, np.maximum(coming - taken * share, 0.0))
    return np.maximum(count, 1), (left > 0).astype(np.float64)


def _decode_rate(case: Case, offer: Offer, minutes: Minutes) -> Floats:
    """Tokens/s of an instance; where a minute's context lets nobody hold the SLO, one at a time."""
    capacity = decode_capacity(offer.speed, minutes.context, case.journey.slo.tbt)
    rate: Floats = np.maximum(capacity.batch, 1.0) / capacity.step
    return rate


def _decode_offers(case: Case) -> list[Offer]:
    context = np.array([case.minutes.mean_context])
    slo = case.journey.slo.tbt
    priced: list[tuple[float, Offer]] = []
    best = np.inf
    for offer in case.offers[Role.DECODE]:
        capacity = decode_capacity(offer.speed, context, slo)
        best = min(best, float(capacity.step[0]))
        if capacity.batch[0]:
            priced.append((offer.gpus / float(capacity.rate[0]), offer))
    if not priced:
        names = ", ".join(offer.gpu_type for offer in case.offers[Role.DECODE])
        limit = "its KV" if slo is None else f"a TBT of {slo:g} s and its KV"
        raise ValueError(
            f"no GPU type for decode ({names}) holds one request within {limit} at the mean context"
            f" of {context[0]:.0f} tokens; the fastest step is {best:.3g} s"
        )
    return [offer for _, offer in sorted(priced, key=lambda pair: pair[0])]


def _prefill_offers(case: Case) -> list[Offer]:
    offers = case.offers[Role.PREFILL]
    if not offers:
        raise ValueError("prefill has no GPU type")
    queues = [prefill_queue(case, offer) for offer in offers]
    enough = QUANTILE * max(queue.reachable for queue in queues)
    seconds = case.minutes.seconds
    priced = [
        (offer.gpus * float((queue.work * seconds).sum()), offer)
        for offer, queue in zip(offers, queues, strict=True)
        if queue.reachable >= enough
    ]
    return [offer for _, offer in sorted(priced, key=lambda pair: pair[0])]
