"""Engines as they were seen: they share work, do no more than was seen, and are silent when unwatched."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_advisor.history import LATENCIES
from heteroscale_advisor.model import Latency, Promise, RoleModel
from heteroscale_advisor.plant import SeenPlant
from heteroscale_simulator.plant.port import Seat

SECONDS = 100


def model(role: Role, highest: float, limit: float) -> RoleModel:
    loads = np.array([0.0, highest])
    return RoleModel(
        role,
        highest,
        highest,
        stated=False,
        latencies={
            name: Latency(loads, np.array([0.01, 0.02]), Promise(limit, stated=True))
            for name in LATENCIES[role]
        },
        kv_per_request=0.1,
    )


def plant(unknown: slice | None = None) -> SeenPlant:
    known = np.ones(SECONDS, dtype=np.bool_)
    if unknown is not None:
        known[unknown] = False
    models = {
        Role.PREFILL: model(Role.PREFILL, 1000.0, 0.5),
        Role.DECODE: model(Role.DECODE, 200.0, 0.05),
    }
    made = SeenPlant(models, known)
    for name, role in (("p", Role.PREFILL), ("d1", Role.DECODE), ("d2", Role.DECODE)):
        made.join(Seat(name, role, "H20", 1, {}))
        made.open(name)
    return made


def second(made: SeenPlant, requests: float, prompt: float = 100.0, output: float = 20.0) -> None:
    made.advance(np.array([requests]), np.array([requests * prompt]), np.array([requests * output]))


def test_work_is_shared_and_counted() -> None:
    made = plant()
    for _ in range(10):
        second(made, 5.0)
    told = made.readings()
    assert list(told.ids) == ["p", "d1", "d2"]
    assert told.computed_prompt_tokens.tolist() == pytest.approx([5000.0, 0.0, 0.0])
    assert told.generation_tokens.tolist() == pytest.approx([50.0, 500.0, 500.0])
    assert told.requests_finished.tolist() == pytest.approx([50.0, 25.0, 25.0])
    assert told.waiting.tolist() == [0.0, 0.0, 0.0]
    # 50 tokens/s of at most 200: a quarter of the way from 10 to 20 ms.
    assert told.tbt_sum[1] / told.tbt_count[1] == pytest.approx(0.0125)
    out = made.outcomes()
    assert out.arrived.sum() == out.met.sum() == 50.0


def test_more_than_was_ever_seen_waits_and_is_late() -> None:
    made = plant()
    for _ in range(20):
        second(made, 20.0)
    told = made.readings()
    assert told.computed_prompt_tokens[0] == pytest.approx(20 * 1000.0)
    assert told.waiting[0] == pytest.approx(200.0)
    out = made.outcomes()
    assert out.ttft_met[0] == 0.0
    assert out.tbt_met.sum() == 400.0


def test_without_an_open_engine_nothing_is_kept() -> None:
    made = plant()
    made.close("p")
    second(made, 1.0)
    assert made.outcomes().ttft_met.sum() == 0.0
    made.open("p")
    for _ in range(5):
        second(made, 0.0)
    assert made.readings().waiting[0] == 0.0


def test_a_closed_engine_finishes_what_it_holds() -> None:
    made = plant()
    second(made, 5.0)
    held = made.held("d1")
    assert held == pytest.approx(2.5 * 20 * 0.0125)
    made.close("d1")
    assert made.held("d1") == held
    for _ in range(60):
        second(made, 5.0)
    assert made.held("d1") == 0.0
    made.remove("d1")
    assert made.outcomes().failed.sum() == 0.0
    assert list(made.readings().ids) == ["p", "d2"]


def test_one_that_is_removed_at_work_loses_it() -> None:
    made = plant()
    second(made, 5.0)
    made.remove("d1")
    assert made.outcomes().failed.sum() > 0.0


def test_while_nobody_looks_engines_tell_nothing_and_never_zero() -> None:
    made = plant(slice(5, 10))
    for _ in range(7):
        second(made, 5.0)
    told = made.readings()
    for name in ("generation_tokens", "running", "waiting", "kv_usage", "tbt_sum"):
        assert np.isnan(getattr(told, name)).all()
    for _ in range(5):
        second(made, 5.0)
    assert np.isfinite(made.readings().running).all()


def test_what_nobody_tells_stays_unknown() -> None:
    told = plant().readings()
    assert np.isnan(told.transferring).all()
    assert np.isnan(told.gpu_util).all()


def alone() -> SeenPlant:
    made = SeenPlant(
        {Role.AGGREGATED: model(Role.AGGREGATED, 200.0, 0.5)}, np.ones(SECONDS, dtype=np.bool_)
    )
    for name in ("a1", "a2"):
        made.join(Seat(name, Role.AGGREGATED, "H20", 1, {}))
        made.open(name)
    return made


def test_where_every_engine_does_both_it_counts_both() -> None:
    made = alone()
    for _ in range(10):
        second(made, 5.0)
    told = made.readings()
    assert told.computed_prompt_tokens.tolist() == pytest.approx([2500.0, 2500.0])
    assert told.generation_tokens.tolist() == pytest.approx([500.0, 500.0])
    assert told.requests_finished.tolist() == pytest.approx([25.0, 25.0])
    assert told.ttft_sum[0] / told.ttft_count[0] == pytest.approx(0.0125)
    assert told.tbt_sum[0] / told.tbt_count[0] == pytest.approx(0.0125)
    # A request stays for its first token, and for all that follow.
    assert told.running[0] == pytest.approx(2.5 * (0.0125 + 20 * 0.0125))


def test_there_who_waits_waits_for_the_first_token_alone() -> None:
    made = alone()
    for _ in range(20):
        second(made, 30.0)
    # 600 tokens/s of at most 400 arrive for 20 s.
    assert made.readings().waiting.sum() == pytest.approx(20 * 200.0 / 20)
    out = made.outcomes()
    assert out.ttft_met[5:].sum() == 0.0
    assert out.tbt_met.sum() == out.arrived.sum()
    assert out.met[5:].sum() == 0.0
