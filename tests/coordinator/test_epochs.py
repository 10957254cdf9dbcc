"""Epochs are committed before they are told; leases go on whatever the store does."""

from __future__ import annotations

import pytest

from heteroscale_coordinator.core.events import (
    RankChanged,
    RenewLeases,
)
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.answers import LoopUnavailableError
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from heteroscale_coordinator.edge.store.port import StoreConflictError
from tests.coordinator.face import Script, face, hello, until
from tests.coordinator.scripts import (
    CODE,
    FULL,
    WISH,
    SlowStore,
    event,
    store_each_fact,
)

# ---- epochs ------------------------------------------------------------------------------------


async def test_an_epoch_above_the_highest_heard_is_committed_before_the_welcome() -> None:
    store = MemoryStore()
    async with face(store=store) as it:
        assert store.load().epoch == it.loop.epoch == 1
        async with it.agent(hello("a1", highest_epoch=1)) as agent:
            # 1 is ours, but a1 cannot have it from us: another coordinator led with it.
            assert agent.welcome.epoch == 2
        async with it.agent(hello("a1", highest_epoch=2)) as agent:
            assert agent.welcome.epoch == 2, "our own: no need of a higher one"
        async with it.agent(hello("a2", highest_epoch=41)) as agent:
            assert agent.welcome.epoch == 42
            assert store.load().epoch == 42
        async with it.agent(hello("a3", highest_epoch=7)) as agent:
            assert agent.welcome.epoch == 42


async def test_agents_that_hear_a_raised_epoch_with_their_commands_do_not_raise_it_again() -> None:
    async with (
        face() as it,
        it.agent(hello("a1")),
        it.agent(hello("a2", highest_epoch=41)),
        it.agent(hello("a1", highest_epoch=42)) as again,
    ):
        assert again.welcome.epoch == 42


async def test_an_epoch_that_cannot_be_committed_is_not_led_with() -> None:
    store = MemoryStore()
    async with face(store=store) as it:
        store.fail("set_epoch", FULL)
        async with it.agent() as agent:
            await agent.send(hello=hello(highest_epoch=9))
            code, text = await agent.status()
        assert code is CODE.UNAVAILABLE
        assert "disk full" in text
        assert it.loop.epoch == 1
        async with it.agent(hello("a2")) as agent:
            assert agent.welcome.epoch == 1, "others are led as before"


async def test_a_coordinator_that_another_replaced_ends() -> None:
    backing = Backing()
    async with face(store=MemoryStore(backing), running=False) as it:
        rival = MemoryStore(backing)
        rival.load()
        rival.set_epoch(10)
        with pytest.raises(StoreConflictError):
            await it.loop.run()
        assert "another coordinator leads" in it.loop.status().stuck


# ---- leases ------------------------------------------------------------------------------------


async def test_leases_are_renewed_also_while_the_store_fails() -> None:
    store = SlowStore()
    leases = [RenewLeases("a1", {"i-1": 30.0, "i-2": 30.0, "i-3": 12.0}), RenewLeases("gone", {})]
    async with (
        face(Script(store_each_fact), store=store, renewals=lambda *_: leases) as it,
        it.agent(hello()) as agent,
    ):
        it.clock.now += 3.0
        renewal = await agent.read_kind("lease_renewal")
        assert renewal.epoch == 1
        store.fail("commit", FULL)
        await agent.send(instance_event=event())
        await until(lambda: bool(it.loop.status().not_ready))
        seen: dict[str, float] = {}
        for _ in range(10):
            it.clock.now += 3.0
            renewal = await agent.read_kind("lease_renewal")
            seen |= dict.fromkeys(renewal.instance_ids, renewal.duration.seconds)
        assert seen == {"i-1": 30, "i-2": 30, "i-3": 12}


async def test_a_hanging_store_makes_the_loop_unready_and_leases_go_on() -> None:
    store = SlowStore()
    leases = [RenewLeases("a1", {"i-1": 30.0})]
    rules = State().rules.model_copy(update={"tick": 0.02})
    async with (
        face(Script(store_each_fact), store=store, rules=rules, renewals=lambda *_: leases) as it,
        it.agent(hello()) as agent,
    ):
        await agent.read_kind("ack")
        store.go.clear()
        await agent.send(instance_event=event())
        await it.script.see(RankChanged)
        for _ in range(3):
            assert list((await agent.read_kind("lease_renewal")).instance_ids) == ["i-1"]
        assert "has not answered for" in it.loop.status().not_ready[0]
        with pytest.raises(LoopUnavailableError, match="has not answered"):
            await it.loop.submit(WISH)
        store.go.set()
        await agent.read_kind("ack")
        await until(lambda: not it.loop.status().not_ready)
