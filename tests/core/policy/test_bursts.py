"""The flap guard beside an ordinary bursty service: cooldowns grow a little, nothing is locked."""

from __future__ import annotations

from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy.flap import factor_in, factor_out
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import D
from tests.core.policy.plant import TICK, Plant

EVERY, LASTS, BURSTS = 900.0, 240.0, 5
SPEC = {
    "roles": {
        "prefill": {"template": "prefill", "min": 1, "max": 30, "target": 5000},
        "decode": {"template": "decode", "min": 2, "max": 40, "target": 1000},
    },
    "ratio": {"min": 0.25, "max": 1},
}


def test_four_minutes_in_fifteen_are_answered_and_given_back_every_time() -> None:
    """Four times the load, by default: two reversals a burst, of which three in 30 min are free."""
    spec = ServiceSpec.model_validate(SPEC)
    loop = Plant(spec, lambda at: 40.0 if at % EVERY < LASTS else 10.0, startup=60.0)
    loop.begin(2, 3)
    loop.run(BURSTS * EVERY)
    assert loop.memory.stability.reversal_count > spec.policy.stability.flap.allowed
    assert factor_out(loop.memory, spec.policy, loop.now).value <= 2
    assert factor_in(loop.memory, spec.policy, loop.now).value <= 2
    grown = [at for at, _ in loop.actions(Action.SCALE_OUT)]
    for burst in range(BURSTS):
        begun = burst * EVERY
        assert begun < min(at for at in grown if at > begun) <= begun + 3 * TICK
        at_its_end = loop.counts[int((begun + LASTS) / TICK) - 1][D]
        before_the_next = loop.counts[int((begun + EVERY) / TICK) - 1][D]
        assert at_its_end >= 8
        assert before_the_next < at_its_end
