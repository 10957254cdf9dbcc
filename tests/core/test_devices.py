"""Readings of a node's devices in sums, and what is said of their state."""

from __future__ import annotations

import pytest

from heteroscale.words import GpuHealth
from heteroscale_coordinator.core.devices import (
    NO_DEVICES,
    UNTOLD,
    GpuFact,
    GpuSample,
    KnownDevices,
    NicFact,
    NicSample,
    percents,
    troubles,
)

UP, DOWN = NicSample(active=True), NicSample(active=False)


def gpus(*seen: GpuSample) -> list[tuple[GpuFact, GpuSample]]:
    return [(GpuFact(index, "H20"), one) for index, one in enumerate(seen)]


def nics(*seen: NicSample) -> list[tuple[NicFact, NicSample]]:
    return [(NicFact(f"mlx5_{i}", rate_gbps=400.0), one) for i, one in enumerate(seen)]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((GpuSample(), GpuSample(health=GpuHealth.OK)), []),
        ((GpuSample(health=GpuHealth.LOST),), ["GPU 0 lost"]),
        ((GpuSample(health=GpuHealth.ERROR),) * 2, ["GPUs 0, 1 not answering the driver"]),
        ((GpuSample(throttle=0), GpuSample(throttle=1), GpuSample(throttle=8)), []),
        ((GpuSample(throttle=3),), ["GPU 0 slowed down by heat"]),
        ((GpuSample(throttle=4),), ["GPU 0 slowed down by a hardware slowdown"]),
        ((GpuSample(ecc_uncorrected=2),), ["GPU 0 with uncorrected ECC errors"]),
    ],
)
def test_troubles_of_gpus(seen: tuple[GpuSample, ...], said: list[str]) -> None:
    assert troubles(gpus(*seen), ()) == said


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((UP, NicSample()), []),
        ((DOWN, DOWN), ["all 2 RDMA ports down"]),
        ((DOWN, UP), ["RDMA port down: mlx5_0"]),
        ((DOWN, NicSample()), ["RDMA port down: mlx5_0"]),
        ((UP._replace(rate_gbps=200),), ["RDMA port mlx5_0 at 200 of 400 Gb/s"]),
        ((UP._replace(rate_gbps=400),), []),
        ((DOWN,) * 10 + (UP,), [f"RDMA ports down: {', '.join(f'mlx5_{i}' for i in range(8))} …"]),
    ],
)
def test_troubles_of_ports(seen: tuple[NicSample, ...], said: list[str]) -> None:
    assert troubles((), nics(*seen)) == said


def test_a_slow_port_that_nobody_knows_the_best_of_is_not_called_slow() -> None:
    assert troubles((), [(NicFact("mlx5_0"), NicSample(active=True, rate_gbps=100))]) == []


# ---- sums --------------------------------------------------------------------------------------


def test_who_answers_the_driver_and_which_ports_are_up_unknown_being_neither_up_nor_down() -> None:
    seen = KnownDevices(
        [GpuSample(health=health) for health in (GpuHealth.OK, GpuHealth.LOST, None)],
        [UP, DOWN, NicSample(), UP],
    )
    assert seen.healthy == (True, False, True)
    assert (seen.ports_up, seen.ports_down) == (2, 1)


def test_the_busiest_port_counts_and_none_that_tells_is_unknown_not_zero() -> None:
    told = [NicSample(share=share) for share in (None, 0.25, 0.5)]
    assert KnownDevices((), told).port_share == 50
    assert KnownDevices((), [NicSample(share=0.0)]).port_share == 0
    assert KnownDevices((), [NicSample()]).port_share == UNTOLD == NO_DEVICES.port_share


def test_a_percentage_that_is_none_is_unknown_and_the_others_stay() -> None:
    seen = [GpuSample(utilization_percent=value) for value in (7, None, 101, -1, 300, 100)]
    assert list(KnownDevices(seen).utilization) == [7, UNTOLD, UNTOLD, UNTOLD, UNTOLD, 100]
    assert percents([0, 100]) == bytes([0, 100])
