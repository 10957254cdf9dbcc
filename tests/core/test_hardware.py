"""What GPUs and ports say: from a report's devices, beside an engine's sample, into its track."""

from __future__ import annotations

import math

from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_coordinator.core.devices import (
    UNTOLD,
    GpuFact,
    GpuSample,
    KnownDevices,
    NicSample,
    percents,
)
from heteroscale_coordinator.core.events import ReportReceived
from heteroscale_coordinator.core.hardware import hardware_of
from heteroscale_coordinator.core.model import EngineSample, Instance, Inventory, Rank
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.track import SLOTS, Track
from tests.core.world import World


def agent(*gpus: tuple[int | None, int | None], share: float | None = None) -> Agent:
    samples = [
        GpuSample(utilization_percent=busy, sm_activity_percent=active) for busy, active in gpus
    ]
    return Agent("a", devices=KnownDevices(samples, [NicSample(share=share)]))


def instance(*ranks: tuple[str, tuple[int, ...]]) -> Instance:
    made = tuple(Rank(name, indices) for name, indices in ranks)
    return Instance("i", "chat", Role.DECODE, made, InstanceState.IN_SERVICE, 1, 0.0, 0.0)


def engine(at: float = 0.0, gpu_percent: float | None = None) -> EngineSample:
    return EngineSample("i", ScrapeQuality.OK, at, gpu_percent=gpu_percent)


def test_means_are_taken_over_the_gpus_of_the_instance_that_tell() -> None:
    agents = {"a": agent((90, 60), (30, None), (7, 7), (None, None), share=0.25)}
    assert hardware_of(agents, instance(("a", (0, 1))), engine()) == bytes((60, 60, 25))
    assert hardware_of(agents, instance(("a", (3,))), engine()) == bytes((UNTOLD, UNTOLD, 25))


def test_every_rank_counts_and_the_busiest_port_of_all_hosts() -> None:
    agents = {"a": agent((90, 60), share=0.25), "b": agent((50, 40), share=0.5)}
    both = instance(("a", (0,)), ("b", (0,)), ("gone", (0,)))
    assert hardware_of(agents, both, engine()) == bytes((70, 50, 50))


def test_the_use_of_its_own_processes_is_an_instances_utilisation() -> None:
    """Two instances may share a GPU; its utilisation is of both."""
    agents = {"a": agent((90, 60))}
    assert hardware_of(agents, instance(("a", (0,))), engine(gpu_percent=12.4))[:2] == bytes(
        (12, 60)
    )


def test_processes_that_could_not_be_told_apart_do_not_make_busy_gpus_idle() -> None:
    untold = engine(gpu_percent=0.0)
    assert hardware_of({"a": agent((90, 60))}, instance(("a", (0,))), untold)[0] == 90
    assert hardware_of({"a": agent((None, 60))}, instance(("a", (0,))), untold)[0] == 0
    assert hardware_of({}, instance(("a", (0,))), untold)[0] == 0


def test_readings_stand_in_the_inventorys_order_not_by_index() -> None:
    host = agent((10, 11), (90, 91))
    host.inventory = Inventory(gpus=(GpuFact(4, "H20"), GpuFact(0, "H20")))
    assert hardware_of({"a": host}, instance(("a", (0,))), engine())[:2] == bytes((90, 91))


def test_a_track_keeps_hardware_beside_each_sample_and_unknown_before_it_was_told() -> None:
    track = Track(5.0)
    track.add(engine(0.0))
    track.add(engine(5.0), bytes((50, 40, 30)))
    track.add(engine(10.0), bytes((100, UNTOLD, 0)))
    samples = track.window(10.0, 60.0)
    assert math.isnan(samples.value("gpu_util", 0))
    assert list(samples.column("gpu_util", 1, 3)) == [0.5, 1.0]
    assert math.isnan(samples.value("sm_activity", 2))
    assert samples.value("rdma_share", -1) == 0.0
    assert list(track.window(10.0, 0.0).column("gpu_util", 0, 1)) == [1.0]


def test_hardware_stays_beside_its_sample_when_samples_are_thinned_and_dropped() -> None:
    track = Track(5.0)
    for at in range(2 * (SLOTS + 10)):
        track.add(engine(2.5 * at), bytes((at, 0, 0)))
    samples = track.window(1e9, 1e9)
    seen = [round(100 * value) for value in samples.column("gpu_util", 0, len(samples))]
    assert [2.5 * at for at in seen] == list(samples.times)


def test_a_counter_that_falls_cuts_off_hardware_too() -> None:
    track = Track(5.0)
    track.add(EngineSample("i", ScrapeQuality.OK, 0.0, 100.0), bytes((50, 50, 0)))
    track.add(EngineSample("i", ScrapeQuality.OK, 5.0, 10.0), bytes((70, 70, 0)))
    samples = track.window(5.0, 60.0)
    assert list(samples.column("gpu_util", 0, len(samples))) == [0.7]


def test_a_report_puts_its_devices_beside_the_samples_that_came_with_it() -> None:
    world = World()
    host = world.join("n0", {}, ["H20", "H20"])
    world.turn()
    world.state.instances["i"] = instance(("n0", (1,)))
    known = KnownDevices(
        [GpuSample(utilization_percent=1), GpuSample(utilization_percent=80, sm_activity_percent=7)]
    )
    host.sequence += 1
    world.send(ReportReceived("n0", 1, host.sequence, (engine(world.now),), known))
    world.turn()
    samples = world.state.tracks["i"].window(world.now, 60.0)
    assert samples.value("gpu_util", -1) == 0.8
    assert samples.value("sm_activity", -1) == 0.07
    assert math.isnan(samples.value("rdma_share", -1))


def test_percent_out_of_range_is_unknown_and_never_zero() -> None:
    assert percents([0, 50, 100]) == bytes((0, 50, 100))
    assert percents([101, None, -1, 4_000_000_000, 7]) == bytes((*[UNTOLD] * 4, 7))
    assert percents([]) == b""
