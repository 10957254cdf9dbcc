"""SIGSTOP and SIGCONT of the coordinator, an agent, an engine, the router: a pause is no death."""

from __future__ import annotations

import signal

import pytest

from heteroscale.words import InstanceState, Role
from tests.process.stage import LONG, RULES, SHORT_LEASE, Stage

pytestmark = pytest.mark.process
_S = InstanceState
STOP, CONT = signal.SIGSTOP, signal.SIGCONT


async def test_a_stopped_coordinator_keeps_nothing_withdrawn_and_replaces_nothing(
    stage: Stage,
) -> None:
    stage.lease = SHORT_LEASE
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out = await stage.until_any(_S.WITHDRAWN)
        endpoint = (await stage.by_id())[out].endpoint

        async def listed() -> bool:
            return endpoint in await stage.workers()

        async def gone() -> bool:
            return not await listed()

        await stage.until(gone, f"{out} out of the router")
        stage.cluster.coordinator.signal(STOP)
        await stage.until(listed, f"{out} back in the router when its lease ended")
        # The claim: it may be away for longer than any agent may.
        await stage.never(gone, f"{out} left the router again", RULES.lost_after)
        stage.cluster.coordinator.signal(CONT)
        await stage.until_agents(3)
        assert await stage.until_serving(1, 3) == before
    assert await stage.actions() == ["repair", "scale_in"]
    assert stage.starts() == dict.fromkeys(before, 1)


async def test_a_stopped_agent_is_replaced_and_its_surplus_leaves_softly(stage: Stage) -> None:
    await stage.want(2, 2, observation="3s")
    before = await stage.until_serving(2, 2)
    home = (await stage.by_id())[(await stage.ids(role=Role.DECODE)).pop()].agent_ids[0]
    its_own = {name for name, one in (await stage.by_id()).items() if home in one.agent_ids}
    async with stage.traffic():
        stage.cluster.agents[home].signal(STOP)
        for state in (_S.UNKNOWN, _S.LOST):

            async def all_are(state: InstanceState = state) -> bool:
                return its_own <= await stage.ids(state)

            await stage.until(all_are, f"{its_own} {state}")

        async def replaced() -> bool:
            serving = [await stage.ids(_S.IN_SERVICE, role=r) for r in (Role.PREFILL, Role.DECODE)]
            return [len(x) for x in serving] == [2, 2] and await stage.routed() == set().union(
                *serving
            )

        await stage.until(replaced, "the lost replaced, and out of the router")
        assert before.items() <= stage.started().items(), "the engines of the stopped agent run on"
        stage.cluster.agents[home].signal(CONT)
        await stage.until(lambda: stage.are(its_own, _S.WITHDRAWN), f"{its_own} withdrawn")
        assert before.items() <= stage.started().items(), "withdrawn first, not killed"
        await stage.until(lambda: stage.are(its_own, _S.TERMINATED), f"{its_own} terminated")
        after = await stage.until_serving(2, 2)
    assert its_own.isdisjoint(after)
    assert stage.starts() == dict.fromkeys([*before, *after], 1)
    told = await stage.actions()
    assert (told[0], told[-2:]) == ("repair", ["scale_in", "finish_scale_in"])


async def test_a_stopped_engine_is_unknown_not_idle(stage: Stage) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    async with stage.traffic(rate=1.0):
        victim = (await stage.ids(role=Role.DECODE)).pop()
        engine = stage.process(victim)
        engine.send_signal(STOP)
        await stage.until(lambda: stage.quality("decode_tps", "partial"), "a signal to be partial")
        await stage.allow_one_less(1, 2)
        await stage.never(
            lambda: stage.ids(_S.WITHDRAWN, _S.DRAINING), "a withdrawal on unknown load", 4.0
        )
        inputs = (await stage.last_hold()).inputs.values()
        assert any("1 not heard all the time, at full target" in text for text in inputs), list(
            inputs
        )
        engine.send_signal(CONT)
        # What was in the way was that engine alone: with it heard again, one is withdrawn.
        await stage.until_any(_S.WITHDRAWN)
    assert stage.started() == before
    assert stage.starts() == dict.fromkeys(before, 1)


async def test_a_stopped_router_stops_no_engine(stage: Stage) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    router = stage.cluster.routers[0]
    async with stage.traffic(rate=2.0) as load:
        load.offer(64, LONG)
        victim = (await stage.ids(role=Role.DECODE)).pop()
        router.signal(STOP)
        await stage.operator.drain(victim)
        await stage.until_state(victim, _S.DRAINING)
        # Its gate cannot be seen to be closed, so it is not stopped however quiet it is.
        await stage.never(
            lambda: stage.ids(_S.TERMINATED, _S.FAILED, _S.LOST), "an end without its gate", 5.0
        )
        assert before.items() <= stage.started().items()
        router.signal(CONT)
        await stage.until_state(victim, _S.TERMINATED)
        after = await stage.until_serving(1, 2)
    assert stage.starts() == dict.fromkeys([*before, *after], 1)
