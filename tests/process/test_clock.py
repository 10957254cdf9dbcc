"""The coordinator restarts under a wall clock an hour off: nothing happens because of that.

Faketime moves the wall clock only; the monotonic one is the machine's, as after a bad time server.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heteroscale.words import InstanceState
from heteroscale_workbench.cluster.processes import Part
from tests.process.stage import Stage

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Not the command `faketime`: that one stays between us and the process it starts."""
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(LIBRARY is None, reason="no faketime (Debian: apt-get install faketime)"),
]
_S = InstanceState
JUMPS = pytest.mark.parametrize("jump", ["+1h", "-1h"])


async def restart(part: Part, jump: str) -> None:
    """Kill -9 the part and start it under another wall clock."""
    await part.kill()
    plain = part.command[part.command.index(sys.executable) :]
    fake = (f"LD_PRELOAD={LIBRARY}", f"FAKETIME={jump}", "DONT_FAKE_MONOTONIC=1")
    part.command = ("env", *fake, *plain) if jump else plain
    await part.start()


async def ready(stage: Stage) -> None:
    """Wait until the coordinator decides again, on what the whole fleet says."""

    async def decided() -> bool:
        return await stage.condition() == "ready" and await stage.quality("decode_tps", "ok")

    await stage.until(decided, "the restarted coordinator to decide")


@JUMPS
async def test_a_withdrawal_is_observed_to_its_own_end(stage: Stage, jump: str) -> None:
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out, since = await stage.until_withdrawn()
        await restart(stage.cluster.coordinator, jump)
        await ready(stage)
        # Its observation is long over on a clock that jumped ahead.
        await stage.outlasts_its_lease(out, since)
        await restart(stage.cluster.coordinator, "")
        await ready(stage)
        assert await stage.ids(_S.WITHDRAWN) == {out}
        await stage.want(1, 3)
        assert await stage.until_serving(1, 3) == before
    assert await stage.actions() == ["repair", "scale_in", "reinstate"]
    assert stage.starts() == dict.fromkeys(before, 1)


@JUMPS
async def test_a_jump_ends_no_cooldown_of_scale_in_and_loses_nobody(
    stage: Stage, jump: str
) -> None:
    """One was withdrawn and finished; the next waits for the cooldown, which no clock shortens."""
    await stage.want(1, 4, observation="1s", cooldownIn="40s")
    await stage.until_serving(1, 4)
    async with stage.traffic(rate=1.0):
        await stage.want(1, 3)
        before = await stage.until_serving(1, 3)
        await stage.allow_one_less(1, 3)
        await restart(stage.cluster.coordinator, jump)
        await ready(stage)

        async def moved() -> bool:
            return await stage.ids(_S.IN_SERVICE) != set(before)

        async def cooling() -> bool:
            assert not await moved(), "something changed at the jump"
            return (await stage.last_hold()).bound_by == "cooldown"

        # Demand is as low as can be: the cooldown alone stands in the way.
        await stage.until(cooling, "a hold for the cooldown")
    assert stage.started() == before
    assert max(stage.starts().values()) == 1


async def test_an_agent_under_another_clock_keeps_its_engines(stage: Stage) -> None:
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out = await stage.until_any(_S.WITHDRAWN)
        home = (await stage.by_id())[out].agent_ids[0]
        for jump in ("+1h", "-1h"):
            await restart(stage.cluster.agents[home], jump)
            await stage.until_agents(3)

            async def left() -> bool:
                return await stage.ids(_S.WITHDRAWN, _S.UNKNOWN) != {out}

            await stage.never(left, f"{out} left its withdrawal", 1.0)
        await stage.want(1, 3)
        assert await stage.until_serving(1, 3) == before
    assert stage.starts() == dict.fromkeys(before, 1)
