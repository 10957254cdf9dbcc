"""Agents cut off from the coordinator: one is replaced, half of them is a partition.

Engines and router still reach each other, so no request may fail, whatever the coordinator thinks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.local import Layout, two_minipods
from tests.process import fleet
from tests.process.stage import RULES, Stage

pytestmark = pytest.mark.process
_S = InstanceState
AGENTS = 4


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    hosts = two_minipods(AGENTS, 2)
    options = ("--kv-lease", "8")
    return replace(fleet.layout(tmp_path, options=options, hosts=hosts, rules=RULES), wires=True)


async def test_one_agent_cut_off_is_replaced_and_leaves_softly(stage: Stage) -> None:
    await stage.want(2, 3, observation="3s")
    before = await stage.until_serving(2, 3)
    home = (await stage.by_id())[(await stage.ids(role=Role.DECODE)).pop()].agent_ids[0]
    its_own = {name for name, one in (await stage.by_id()).items() if home in one.agent_ids}
    endpoints = {(await stage.by_id())[name].endpoint for name in its_own}

    async def taken_out() -> bool:
        # Its agent lives and puts them in again at once, so the list does not tell.
        lines = stage.cluster.coordinator.log.read_text("utf-8").splitlines()
        told = [json.loads(line) for line in lines if "worker of a lost node removed" in line]
        return {one["endpoint"] for one in told} == endpoints

    async def replaced() -> bool:
        counts = [len(await stage.ids(_S.IN_SERVICE, role=r)) for r in (Role.PREFILL, Role.DECODE)]
        return counts == [2, 3]

    async with stage.traffic():
        stage.cluster.wires[home].cut()
        await stage.until(lambda: stage.are(its_own, _S.UNKNOWN), f"{its_own} unknown")
        assert await stage.condition() == "ready", "one alone is no partition"
        await stage.until(lambda: stage.are(its_own, _S.LOST), f"{its_own} lost")
        await stage.until(replaced, "replacements in service")
        await stage.until(taken_out, "the lost out of the router")
        assert before.items() <= stage.started().items(), "nothing was stopped"
        stage.cluster.wires[home].heal()
        await stage.until(lambda: stage.are(its_own, _S.WITHDRAWN), f"{its_own} withdrawn")
        assert before.items() <= stage.started().items(), "withdrawn first, not killed"
        await stage.until(lambda: stage.are(its_own, _S.TERMINATED), f"{its_own} terminated")
        after = await stage.until_serving(2, 3)
    assert its_own.isdisjoint(after)
    assert stage.starts() == dict.fromkeys([*before, *after], 1)


@pytest.mark.parametrize("how", ["cut", "refused"])
async def test_half_the_agents_cut_off_is_a_partition(stage: Stage, how: str) -> None:
    await stage.want(2, 4)
    before = await stage.until_serving(2, 4)
    half = sorted(stage.cluster.wires)[: AGENTS // 2]
    its_own = {
        name for name, one in (await stage.by_id()).items() if set(half) & set(one.agent_ids)
    }
    assert its_own
    async with stage.traffic():
        for name in half:
            if how == "cut":
                stage.cluster.wires[name].cut()
            else:
                await stage.cluster.wires[name].refuse()
        await stage.until(lambda: stage.are(its_own, _S.UNKNOWN), f"{its_own} unknown")
        assert (await stage.gauges())["heteroscale_partition"] == 1
        assert await stage.condition() == "partition"
        # The claim: not even after the time in which one agent would have been replaced.
        await stage.never(
            lambda: stage.ids(_S.LOST, _S.PENDING, _S.LAUNCHING, _S.WITHDRAWN),
            "something was replaced or withdrawn",
            RULES.lost_after,
        )
        hold = await stage.last_hold()
        assert hold.bound_by == "partition", hold.reason
        assert await stage.routed() == set(before)
        for name in half:
            stage.cluster.wires[name].heal()
        assert await stage.until_serving(2, 4) == before
        assert (await stage.gauges())["heteroscale_partition"] == 0
        assert await stage.condition() == "ready"
    assert await stage.actions() == ["repair"]
    assert stage.starts() == dict.fromkeys(before, 1)
    assert "2 of 4 agents silent; nothing is replaced" in stage.cluster.coordinator.log.read_text()
