"""What a split of instances into prefill and decode holds by the formulas alone.

The beginning of a search on the plant (``heteroscale profile --simulated``), and what the plant is held
against in tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import Journey, Offer, decode_capacity
from heteroscale_simulator.measures.prefill_queue import PrefillQueue
from heteroscale_simulator.measures.steady import Mix


@dataclass(frozen=True)
class Bench:
    """What is split: instances of two roles, under one service's requests."""

    mix: Mix
    prefill: Offer
    decode: Offer
    journey: Journey


def expected(bench: Bench, prefill: int, decode: int) -> tuple[float, Role]:
    """Return the requests/s that a split holds by the formulas, and the role that bounds it.

    0 requests/s where not even a slight load keeps the SLO.
    """
    minutes = bench.mix.minutes(1.0)
    slo = bench.journey.slo
    room = decode_capacity(bench.decode.speed, minutes.context, slo.tbt)
    by_decode = decode * float(room.rate[0]) / float(minutes.output_rate[0])
    queue = PrefillQueue(minutes, bench.prefill.speed, bench.journey, room.step)
    by_prefill = float(queue.held_share(prefill, float(queue.most_share(prefill)[0]))[0])
    if by_prefill < by_decode:
        return by_prefill, Role.PREFILL
    return by_decode, Role.DECODE
