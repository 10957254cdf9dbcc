"""Every rival in the world: it is shown all that it asks for, and follows a load that triples."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.capacity import Offer
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.oracle import Needs
from heteroscale_simulator.measures.schedule import Ladder
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.registry import FORESIGHT, RIVALS, rival
from heteroscale_simulator.profiles import load_profile
from heteroscale_simulator.world.simulation import ServiceRun, simulate
from tests.simulator.test_world import fleet, service
from tests.simulator.toy_plant import ToyPlant, steady

P, D = Role.PREFILL, Role.DECODE
MINUTES = 12


def limits() -> Limits:
    """Return what a load that triples after two minutes needs."""
    ladder = Ladder(((Offer("H20", 1, load_profile("demo").gpu("H20"), 90), None),))
    counts = {
        P: np.array([2] * 2 + [6] * (MINUTES - 2)),
        D: np.array([4] * 2 + [12] * (MINUTES - 2)),
    }
    edges = np.linspace(0.0, 60.0 * MINUTES, MINUTES + 1)
    return Limits.of(Needs(edges, counts, {P: ladder, D: ladder}, np.zeros(MINUTES)))


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_runs_in_the_world(name: str) -> None:
    grounds = Grounds({P: 14_000.0, D: 1_400.0}, limits())
    rate = np.repeat([20.0, 60.0], [120, 60 * MINUTES - 120])
    plant = ToyPlant()
    one = ServiceRun("chat", service(), steady(rate), plant)
    result = simulate([one], fleet(), lambda _: rival(name, grounds), seed=1)
    assert result.policy == name
    counts = result.services["chat"].counts[D, InstanceState.IN_SERVICE]
    if name in FORESIGHT:
        assert counts[-1] == 12
    elif name in ("hpa", "keda", "aibrix", "aibrix-window", "dynamo-sla"):
        assert counts[-1] > counts[0]
    assert plant.lost == 0
