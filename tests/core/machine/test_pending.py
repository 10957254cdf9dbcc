"""The claim that a need is answered once, however long the answer takes to start."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from tests.core.machine.test_machine import DEEP
from tests.core.test_transcripts import Teller

P, D = Role.PREFILL, Role.DECODE
TO_SPARE = 2
"""Instances beyond what the load needs: a step of the guard's in a ratio that rounds up."""


@settings(
    max_examples=max(30, int(DEEP) // 10) if DEEP else 4,
    derandomize=not DEEP,
    deadline=None,
    database=None,
    phases=tuple(Phase) if DEEP else (Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(arrivals=st.integers(12, 40), startup=st.sampled_from([60, 120, 300, 500]))
def test_constant_arrivals_are_answered_once_while_the_answer_starts(
    arrivals: int, startup: int
) -> None:
    """With constant arrivals, what was launched never exceeds what they need, whatever piles up."""
    teller = Teller()
    teller.play("agents 8 8\napply roles.decode.max=60 roles.prefill.max=30")
    teller.play("traffic arrivals=9\nrun 300")
    world = teller.world
    world.startup = float(startup)
    world.traffic.arrivals = float(arrivals)
    before = {role: len(world.instances(role)) for role in (P, D)}
    world.run(startup - 20)
    prefill = math.ceil(arrivals * world.traffic.prompt / 5000)
    need = {P: prefill, D: max(2 * prefill, math.ceil(arrivals * world.traffic.output / 1000))}
    for role, n in need.items():
        launched = len(world.instances(role)) - before[role]
        most = max(0, n + TO_SPARE - before[role])
        story = "\n".join(teller.lines)
        assert launched <= most, f"{launched} {role} launched, {most} would do:\n{story}"
