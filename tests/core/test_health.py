"""Which GPUs take nothing new, and what it means to placement and to who leaves first."""

from __future__ import annotations

from itertools import count

import pytest

from heteroscale.words import GpuHealth, NicDistance, Role, ScrapeQuality
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.devices import (
    GpuFact,
    GpuSample,
    KnownDevices,
    NicFact,
    NicSample,
)
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.health import closed_gpus, limping_gpus, sick_gpus
from heteroscale_coordinator.core.model import EngineSample, Inventory
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.track import Track
from tests.core.turn.rig import up
from tests.core.world import World

UP, DOWN = NicSample(active=True), NicSample(active=False)
NEAR, FAR = NicDistance.PIX, NicDistance.SYS


def agent(
    *gpus: GpuSample, nics: tuple[NicSample, ...] = (), facts: tuple[NicFact, ...] | None = None
) -> Agent:
    """Return an agent of so many GPUs; of two ports, each GPU is near the one of its own number."""
    of_gpu = tuple(
        GpuFact(
            i, "H20", nic_distances=tuple(NEAR if i == place else FAR for place in range(len(nics)))
        )
        for i in range(len(gpus))
    )
    ports = tuple(NicFact(f"mlx5_{i}", rate_gbps=400.0) for i in range(len(nics)))
    inventory = Inventory(gpus=of_gpu, nics=ports if facts is None else facts)
    return Agent("n", inventory=inventory, devices=KnownDevices(gpus, nics))


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (GpuSample(), None),
        (GpuSample(health=GpuHealth.OK, ecc_uncorrected=0, xid_count=0, last_xid=0), None),
        (GpuSample(health=GpuHealth.LOST), "lost"),
        (GpuSample(health=GpuHealth.ERROR), "does not answer its driver"),
        (GpuSample(ecc_uncorrected=2), "uncorrected ECC errors (2)"),
        (GpuSample(xid_count=1, last_xid=79), "Xid 79"),
        (GpuSample(xid_count=7, last_xid=31), None),
        (GpuSample(xid_count=1), None),
        (GpuSample(foreign_process_count=1), "held by 1 process of others"),
        (GpuSample(foreign_process_count=2), "held by 2 processes of others"),
    ],
)
def test_what_closes_a_gpu(seen: GpuSample, said: str | None) -> None:
    assert closed_gpus(agent(GpuSample(), seen)) == ({} if said is None else {1: said})


def test_what_others_hold_is_closed_and_not_sick() -> None:
    one = agent(GpuSample(foreign_process_count=1), GpuSample(ecc_uncorrected=1))
    assert closed_gpus(one).keys() == {0, 1}
    assert sick_gpus(one).keys() == {1}


@pytest.mark.parametrize(
    ("nics", "closed"),
    [
        ((UP, UP), set()),
        ((DOWN, UP), {0}),
        ((DOWN, DOWN), {0, 1}),
        ((NicSample(), DOWN), {1}),
        ((DOWN,), {0, 1}),
    ],
)
def test_a_gpu_whose_nearest_ports_are_all_down_is_closed(
    nics: tuple[NicSample, ...], closed: set[int]
) -> None:
    assert closed_gpus(agent(GpuSample(), GpuSample(), nics=nics)).keys() == closed


def test_a_port_that_was_never_up_is_no_broken_link() -> None:
    empty = (NicFact("mlx5_0"), NicFact("mlx5_1", rate_gbps=400.0))
    assert not closed_gpus(agent(GpuSample(), GpuSample(), nics=(DOWN, UP), facts=empty))
    assert not closed_gpus(agent(GpuSample(), nics=(DOWN,), facts=(NicFact("mlx5_0"),)))


def test_without_distances_only_all_ports_down_close_and_readings_may_be_short() -> None:
    ports = (NicFact("a", rate_gbps=400.0), NicFact("b", rate_gbps=400.0))
    inventory = Inventory(gpus=(GpuFact(0, "H20"), GpuFact(3, "H20")), nics=ports)
    one = Agent("n", inventory=inventory, devices=KnownDevices([GpuSample()], [DOWN, UP]))
    assert not closed_gpus(one)
    one.devices = KnownDevices([GpuSample()], [DOWN, DOWN])
    assert closed_gpus(one) == dict.fromkeys((0, 3), "its RDMA ports are down")


# ---- in the turn -------------------------------------------------------------------------------


def draft(world: World) -> Draft:
    ids = count()
    return Draft(world.state, world.now, lambda kind: f"{kind}-{next(ids)}")


def test_a_sick_gpu_takes_nothing_new_and_what_runs_there_is_told() -> None:
    world = up(4, pods=2)
    home = next(i for i in world.state.instances.values() if i.role is Role.DECODE)
    place = home.ranks[0].gpu_indices[0]
    on_it = [one.ranks[0].gpu_indices for one in world.state.of_agent(home.agent_id)]
    spare = next(i for i in range(4) if not any(i in held for held in on_it))
    world.state.agents[home.agent_id].devices = KnownDevices(
        [GpuSample(ecc_uncorrected=1) if i in (place, spare) else GpuSample() for i in range(4)]
    )
    node = {one.agent_id: one for one in sites.nodes(draft(world))}[home.agent_id]
    assert spare not in node.free
    assert node.closed == {spare: "uncorrected ECC errors (1)"}
    assert node.usable
    service = world.state.services["chat"]
    told = {one.instance_id: one.sick for one in sites.standings(draft(world), service)}
    assert told.pop(home.instance_id) == f"{home.agent_id} GPU {place}: uncorrected ECC errors (1)"
    assert not any(told.values())


def test_how_warm_a_cache_is_comes_from_its_usage_or_its_hits_and_unknown_stays_unknown() -> None:
    world = up(4, pods=2)
    service = world.state.services["chat"]
    world.traffic.arrivals = 3
    world.run(60)
    warm = {one.instance_id: one.warmth for one in sites.standings(draft(world), service)}
    for name, known in warm.items():
        newest = world.state.tracks[name].newest
        assert newest is not None
        assert newest.kv_usage is not None
        assert known == pytest.approx(newest.kv_usage), "no prompt was cached"
    world.state.tracks.clear()
    cold = [one.warmth for one in sites.standings(draft(world), service)]
    assert cold == [None] * len(warm)


def test_the_share_of_prompts_that_were_cached_keeps_an_instance_warm() -> None:
    world = up(4, pods=2)
    service, (name,) = world.state.services["chat"], world.instances(Role.PREFILL)
    track = world.state.tracks[name] = Track()
    for at, asked, computed in ((10.0, 0.0, 0.0), (2.0, 9000.0, 2250.0)):
        sample = EngineSample(name, ScrapeQuality.OK, world.now - at)
        track.add(sample._replace(prompt_tokens=asked, computed_prompt_tokens=computed))
    warm = {one.instance_id: one.warmth for one in sites.standings(draft(world), service)}
    assert warm[name] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("ports", "closed", "limping"),
    [
        ((UP, UP), set(), set()),
        ((UP, DOWN), set(), {0, 3}),
        ((DOWN, DOWN), {0, 3}, set()),
        ((NicSample(), DOWN), set(), {0, 3}),
        ((UP, NicSample()), set(), set()),
        ((), set(), set()),
    ],
)
def test_a_gpu_limps_while_some_of_its_nearest_ports_are_down_and_not_all(
    ports: tuple[NicSample, ...], closed: set[int], limping: set[int]
) -> None:
    facts = tuple(NicFact(f"mlx5_{number}", rate_gbps=400.0) for number in range(len(ports)))
    inventory = Inventory(gpus=(GpuFact(0, "H20"), GpuFact(3, "H20")), nics=facts)
    seen = Agent("n", inventory=inventory, devices=KnownDevices((GpuSample(),) * 2, ports))
    assert limping_gpus(seen) == limping
    assert set(closed_gpus(seen)) == closed


def test_a_gpu_beside_its_own_port_does_not_limp_for_anothers() -> None:
    assert limping_gpus(agent(GpuSample(), GpuSample(), nics=(UP, DOWN))) == set()
    never = (NicFact("mlx5_0", rate_gbps=400.0), NicFact("mlx5_1"))
    assert limping_gpus(agent(GpuSample(), nics=(UP, DOWN), facts=never)) == set()
