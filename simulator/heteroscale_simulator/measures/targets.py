"""What one instance should carry: the numbers that policies are given, one for each role.

They are what a pressure test of the service under this load would find, and no policy's own choice.
"""

from __future__ import annotations

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import Offer, decode_capacity
from heteroscale_simulator.measures.need import Case, preferred, prefill_queue


def targets(case: Case) -> dict[Role, float]:
    """Return tokens/s of the largest load that an instance holds its SLO under.

    Decode: generated tokens, at the run's mean context. Prefill: prompt tokens that arrive (found in
    the prefix cache or not), one of as many instances as the busiest minute needs. Both on the first
    GPU type of the role, in the order of its offers, that holds the SLO: the one that is launched first.
    """
    return {
        Role.PREFILL: prefill_target(case, _first(case, Role.PREFILL)),
        Role.DECODE: decode_target(case, _first(case, Role.DECODE)),
    }


def _first(case: Case, role: Role) -> Offer:
    able = preferred(case, role)
    return next(offer for offer in case.offers[role] if offer in able)


def decode_target(case: Case, offer: Offer) -> float:
    """Return generated tokens/s of one decode instance at the run's mean context; 0: cannot hold it."""
    context = np.array([case.minutes.mean_context])
    return float(decode_capacity(offer.speed, context, case.journey.slo.tbt).rate[0])


def prefill_target(case: Case, offer: Offer) -> float:
    """Return prompt tokens/s of one prefill instance among those of the minute with the most work.

    Without traffic: what one instance does when prompts follow one another at its batch's limit.
    """
    queue = prefill_queue(case, offer)
    busiest = int(np.argmax(queue.work))
    work = float(queue.work[busiest])
    if work <= 0:
        return offer.speed.prefill_rate(offer.speed.max_prefill_tokens)
    count = int(queue.need(np.ones_like(queue.work))[busiest])
    share = float(queue.held_share(count, float(queue.most_share(count)[busiest]))[busiest])
    return share * float((case.peaks or case.minutes).prompt_rate[busiest]) / count
