"""The second floor of the contract: as the coordinator's loop sees a sub-cluster, whoever shows it.

Each story is played twice: on clusters behind the port, and on hosts with agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.events import ReinstateInstance
from heteroscale_scheduler_adapters.memory import Hang, MemoryCluster, Refusal
from heteroscale_scheduler_adapters.port import Phase
from tests.adapters.subcluster.agents import AgentSite
from tests.adapters.subcluster.rig import WHOLE, Coordinator, Rig, cluster, kubelet, played

S = InstanceState
OVER = (Phase.ENDED, Phase.FAILED)


class Site(Protocol):
    """A sub-cluster in the hands of a story."""

    name: str

    def cut(self) -> None:
        """Let nothing be heard of it, and nothing reach it."""

    def heal(self) -> None:
        """Undo ``cut``."""

    def refuse(self, why: str) -> None:
        """Let each launch be refused from now on."""

    def fail(self, instance_id: str) -> None:
        """Let an instance end by itself."""

    def busy(self, instance_id: str, requests: float) -> None:
        """Let so many requests run in an instance."""

    def launched(self) -> int:
        """Return how many instances were ever started there."""
        ...

    def alive_ids(self) -> set[str]:
        """Return which run there."""
        ...

    def told_to_end(self) -> int:
        """Return how many were told to end."""
        ...

    def routed(self, instance_id: str) -> bool:
        """Return whether traffic is let to an instance."""
        ...


class MemorySite:
    """A cluster in memory, behind an adapter."""

    def __init__(self, made: MemoryCluster) -> None:
        self.made, self.name = made, made.name
        self.in_flight: dict[str, float] = {}

    def cut(self) -> None:
        self.made.faults["*"] = Hang()
        self.made.expire()

    def heal(self) -> None:
        self.made.faults.clear()

    def refuse(self, why: str) -> None:
        self.made.faults["launch"] = Refusal(why)

    def fail(self, instance_id: str) -> None:
        self.made.become(instance_id, Phase.FAILED, "exit status 1")

    def busy(self, instance_id: str, requests: float) -> None:
        self.in_flight[instance_id] = requests

    def launched(self) -> int:
        return len(self.made.running)

    def alive_ids(self) -> set[str]:
        return {key for key, one in self.made.running.items() if one.phase not in OVER}

    def told_to_end(self) -> int:
        return len(self.made.graces)

    def routed(self, instance_id: str) -> bool:
        return self.made.running[instance_id].gate.open


class World:
    """Sub-clusters that live, whatever coordinators come and go."""

    def __init__(self, rig: Rig, sites: dict[str, Site]) -> None:
        self.rig, self.sites = rig, sites

    @asynccontextmanager
    async def coordinator(self) -> AsyncIterator[Coordinator]:
        """Run one; engines tell it what the sites say runs in them."""
        async with self.rig.coordinator() as one:
            for site in self.sites.values():
                if isinstance(site, MemorySite):
                    site.in_flight = one.in_flight
            yield one

    def home(self, one: Coordinator) -> Site:
        """Return where all that serves stands."""
        ids = {i.instance_id for i in one.having(S.IN_SERVICE)}
        (home,) = [site for site in self.sites.values() if site.alive_ids() & ids]
        return home

    def other(self, home: Site) -> Site:
        return next(site for site in self.sites.values() if site is not home)


@asynccontextmanager
async def _living(kind: str, folder: Path, *names: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        if kind == "memory":
            made = {name: cluster(name, nodes=2, gpus=4) for name in names}
            await stack.enter_async_context(kubelet(*made.values()))
            yield World(Rig(*made.values()), {n: MemorySite(one) for n, one in made.items()})
        else:
            hosts = {name: AgentSite(folder, name) for name in names}
            for site in hosts.values():
                await stack.enter_async_context(site.alive())
            yield World(Rig(hosts=tuple(hosts.values())), dict(hosts))


@pytest.fixture(params=["memory", "agents"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@played
async def test_a_step_gets_into_service_in_one_and_nothing_more_is_started(
    kind: str, tmp_path: Path
) -> None:
    async with (
        _living(kind, tmp_path, "east", "west") as world,
        world.coordinator() as one,
    ):
        await one.serve()
        home = world.home(one)
        assert all(home.routed(i.instance_id) for i in one.having(S.IN_SERVICE))
        await asyncio.sleep(300)
        assert one.serving() == WHOLE
        assert (home.launched(), world.other(home).launched()) == (3, 0)


@played
async def test_what_is_refused_in_one_is_placed_in_another(kind: str, tmp_path: Path) -> None:
    async with (
        _living(kind, tmp_path, "east", "west") as world,
        world.coordinator() as one,
    ):
        world.sites["east"].refuse("no more today")
        await one.serve()
        assert not world.sites["east"].alive_ids()
        assert len(world.sites["west"].alive_ids()) == 3


@played
async def test_one_that_is_silent_keeps_its_instances_counted_and_its_return_is_reconciled(
    kind: str, tmp_path: Path
) -> None:
    async with (
        _living(kind, tmp_path, "east", "west") as world,
        world.coordinator() as one,
    ):
        await one.serve()
        home, ids = world.home(one), {i.instance_id for i in one.having(S.IN_SERVICE)}
        home.cut()
        await one.until(lambda: {i.instance_id for i in one.having(S.UNKNOWN)} == ids, "unknown")
        await asyncio.sleep(600)
        assert {i.instance_id for i in one.having(S.UNKNOWN)} == ids, "counted, not replaced"
        await one.scale(prefill=2, decode=4)
        await one.until(lambda: one.serving() == WHOLE, "what is new, elsewhere")
        assert len(world.other(home).alive_ids()) == 3
        assert home.launched() == 3, "nothing new there"
        home.heal()
        await one.until(lambda: one.serving() == {"prefill": 2, "decode": 4}, "back")
        assert ids <= {i.instance_id for i in one.having(S.IN_SERVICE)}
        await asyncio.sleep(120)
        assert (home.launched(), world.other(home).launched()) == (3, 3)


@played
async def test_what_failed_while_it_was_silent_is_found_on_its_return(
    kind: str, tmp_path: Path
) -> None:
    async with (
        _living(kind, tmp_path, "east", "west") as world,
        world.coordinator() as one,
    ):
        await one.serve()
        home, lost = world.home(one), one.a_decode()
        home.cut()
        await one.until(lambda: len(one.having(S.UNKNOWN)) == 3, "unknown")
        home.fail(lost)
        home.heal()
        await one.until(lambda: one.state.instances[lost].state is S.FAILED, "failed")
        await one.until(lambda: one.serving() == WHOLE, "replaced")


@played
async def test_a_restart_of_the_coordinator_starts_nothing_twice(kind: str, tmp_path: Path) -> None:
    async with _living(kind, tmp_path, "east", "west") as world:
        async with world.coordinator() as one:
            await one.apply()
            await one.until(lambda: one.having(S.PENDING, S.LAUNCHING), "on its way")
        async with world.coordinator() as one:
            await one.until(lambda: one.serving() == WHOLE, "in service")
            await asyncio.sleep(300)
            assert one.serving() == WHOLE
            assert sum(site.launched() for site in world.sites.values()) == 3


@played
async def test_a_drain_waits_for_what_is_in_flight(kind: str, tmp_path: Path) -> None:
    async with _living(kind, tmp_path, "east") as world, world.coordinator() as one:
        await one.serve()
        key, site = one.a_decode(), world.sites["east"]
        site.busy(key, 2.0)
        await one.drain(key)
        await one.until(lambda: not site.routed(key), "out of the routers")
        await asyncio.sleep(120)
        assert not site.told_to_end(), "two requests are in flight"
        site.busy(key, 0.0)
        await one.until(lambda: one.state.instances[key].state is S.TERMINATED, "gone")
        assert site.told_to_end() == 1
        assert key not in site.alive_ids()


@played
async def test_a_drain_is_called_back(kind: str, tmp_path: Path) -> None:
    async with _living(kind, tmp_path, "east") as world, world.coordinator() as one:
        await one.serve()
        key, site = one.a_decode(), world.sites["east"]
        site.busy(key, 1.0)
        await one.drain(key)
        await one.submit(ReinstateInstance(one.request(), key))
        await one.until(lambda: one.state.instances[key].state is S.IN_SERVICE, "back")
        await asyncio.sleep(120)
        assert site.routed(key)
        assert not site.told_to_end()


@played
async def test_what_ended_by_itself_is_replaced(kind: str, tmp_path: Path) -> None:
    async with _living(kind, tmp_path, "east") as world, world.coordinator() as one:
        await one.serve()
        key = one.a_decode()
        world.sites["east"].fail(key)
        await one.until(lambda: one.state.instances[key].state is S.FAILED, "failed")
        await one.until(lambda: one.serving() == WHOLE, "replaced")
        assert len(world.sites["east"].alive_ids()) == 3
