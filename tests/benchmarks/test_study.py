"""The paper's study at small scale: what must hold of its order, with margin.

`make paper-study` plays all eight signals over eight hours.
"""

from __future__ import annotations

import pytest
from benchmarks.study import ground
from benchmarks.study.ground import Yardstick
from benchmarks.study.runs import Cut, Followed, daily, followed
from benchmarks.study.signals import HEADROOM, PAPER, policy_of, slo_of

from heteroscale_coordinator.core.spec import PolicySpec

pytestmark = pytest.mark.timeout(900)  # an hour of a fleet, ten times: long on a busy machine


@pytest.fixture(scope="module")
def tested() -> Yardstick:
    return ground.pressure_test(seed=0)


@pytest.fixture(scope="module")
def runs(tested: Yardstick) -> dict[str, Followed]:
    """Three of the day's hours, an hour for three: calm, then the first hump."""
    load = daily(tested, instances=4, cut=Cut(begin=7.0, hours=6.0, day=8.0), seed=0)
    return {name: followed(name, tested, load, 0) for name in ("decode_tps", "decode_gpu_util")}


def test_every_signal_of_the_paper_can_drive_a_service_alone(tested: Yardstick) -> None:
    assert len(PAPER) == 8
    for signal in PAPER:
        policy = PolicySpec.model_validate(policy_of(signal, tested))
        assert policy.driver == ("latency" if signal in ("ttft", "tbt") else "signals")
        assert list(slo_of(signal, tested)) == [signal] * (policy.driver == "latency")


def test_the_pressure_test_reads_a_loaded_fleet(tested: Yardstick) -> None:
    assert tested.rate > 2.0
    assert ground.HELD < tested.ceiling < 1.0
    assert tested.readings["decode_gpu_util"] > 0.95
    assert tested.readings["prefill_gpu_util"] < 0.9
    assert tested.readings["prefill_tps"] == pytest.approx(
        tested.rate * ground.PROMPT / ground.SPLIT, rel=0.1
    )


def test_at_a_quarter_of_the_load_prefill_says_so_and_decode_utilisation_does_not(
    tested: Yardstick,
) -> None:
    spec = ground.service(ground.SPLIT, least=ground.SPLIT, slo={})
    calm = ground.readings(ground.trial(spec, tested.rate / 4, 0).result)
    share = {name: calm[name] / tested.readings[name] for name in calm}
    for name in ("prefill_tps", "decode_tps", "prefill_gpu_util", "prefill_sm_activity"):
        assert share[name] == pytest.approx(0.25, abs=0.06), name
    assert share["decode_gpu_util"] > HEADROOM


def test_tokens_follow_the_load_and_decode_utilisation_climbs_and_stays(
    runs: dict[str, Followed],
) -> None:
    tokens, busy = runs["decode_tps"], runs["decode_gpu_util"]
    assert tokens.correlation > 0.8
    assert tokens.correlation - busy.correlation > 0.1
    assert busy.gpu_hours > 1.3 * tokens.gpu_hours
    assert busy.counts[-1] == busy.most, "it has never come down again"
    assert tokens.held > 0.95
