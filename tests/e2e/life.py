"""One story for every engine: out, in, back, in again and gone, under load, with no request lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psutil

from heteroscale.words import InstanceState
from tests.e2e.stage import Stage, Traffic, service

_S = InstanceState


@dataclass(frozen=True, slots=True)
class Load:
    """What the story plays, in tokens; ``target`` is what one instance should carry, a second."""

    target: float
    busy: float
    calm: float
    prompt: int = 32
    output: int = 20
    long_output: int = 3500
    """Of requests that are still in flight when their instance is drained."""
    running: str = ""
    """The engine's own gauge of running requests."""


async def whole_life(stage: Stage, template: str, load: Load) -> None:
    """Play the story and assert it; returns when every request has been answered well."""
    await stage.operator.apply(
        service(
            {
                "aggregated": {
                    "template": template,
                    "min": 1,
                    "max": 2,
                    "target": load.target,
                    "startupTimeout": "6m",
                }
            },
            {"kind": "sglang-router", "routers": [stage.cluster.url]},
        )
    )
    (first,) = await stage.until_serving(1)
    async with stage.traffic(load.prompt, load.output) as traffic:
        await _scraped(stage, traffic, load)
        await _grows(stage, traffic, load)
        drained = await _drained_while_busy(stage, traffic, load)
        await _shrinks_and_grows_back(stage, traffic, load)
        gone = await _shrinks_for_good(stage, traffic, load, drained)
    seen = await stage.instances()
    assert {one.id for one in seen if one.state is _S.TERMINATED} >= {drained, gone}
    assert len([one for one in seen if one.state is _S.IN_SERVICE]) == 1
    served = stage.served()
    # Each request reached one engine, once, and every engine had its part.
    assert sum(served.values()) == traffic.run.report().requests
    assert len(served) == 3
    assert min(served.values()) > 0, served
    assert first.id in served
    assert await stage.cluster.routers[0].retries() == 0


async def _scraped(stage: Stage, traffic: Traffic, load: Load) -> None:
    """The agent reads the engine: its tokens are the service's demand."""
    traffic.level = load.calm

    async def told() -> bool:
        one = (await stage.operator.instances())[0]
        return one.HasField("tokens_per_second") and one.tokens_per_second > 0

    await stage.wait(told, "the engine's tokens in the coordinator's eyes")
    (one,) = await stage.operator.instances()
    assert one.HasField("running")
    assert one.HasField("waiting")


async def _grows(stage: Stage, traffic: Traffic, load: Load) -> None:
    traffic.level = load.busy
    await stage.until_serving(2)
    assert await stage.actions() == ["repair", "scale_out"]

    async def both() -> bool:
        return len([n for n in stage.served().values() if n > 0]) == 2

    await stage.wait(both, "requests at both engines")


async def _drained_while_busy(stage: Stage, traffic: Traffic, load: Load) -> str:
    """An operator drains one in the midst of long answers: they end well, then it ends."""
    # Alone, so that what runs at the victim is long and will not be over in a moment.
    await traffic.paused(stage)
    for _ in range(8):
        traffic.ask(load.prompt, load.long_output)
    victim = (await stage.instances(_S.IN_SERVICE))[0]

    async def deep_in_work() -> bool:
        return await stage.metric(victim, load.running) >= 2

    await stage.wait(deep_in_work, "long requests at the victim")
    process = stage.process(victim.id)
    await stage.operator.drain(victim.id)
    assert await stage.metric(victim, load.running) >= 1
    traffic.level = load.busy
    done = await stage.until_state(victim.id, _S.TERMINATED)
    assert victim.endpoint not in await stage.workers()
    assert await asyncio.to_thread(_gone, process), done.message
    # Demand is still there, so another takes its place.
    await stage.until_serving(2)
    return victim.id


async def _shrinks_and_grows_back(stage: Stage, traffic: Traffic, load: Load) -> None:
    """Soft scale-in: out of the router, running on, and back as the same process."""
    traffic.level = load.calm
    soft = await stage.until_one(_S.WITHDRAWN)
    process = stage.process(soft.id)

    async def out() -> bool:
        return soft.endpoint not in await stage.workers()

    await stage.wait(out, "the router to let it go")
    assert process.is_running()
    traffic.level = load.busy
    back = await stage.until_state(soft.id, _S.IN_SERVICE)
    assert (back.endpoint, stage.process(soft.id)) == (soft.endpoint, process)
    await stage.until_serving(2)


async def _shrinks_for_good(stage: Stage, traffic: Traffic, load: Load, drained: str) -> str:
    """Demand stays low: withdrawn, watched, drained, ended, while the other serves on."""
    traffic.level = load.calm
    left: list[str] = []

    async def ended() -> bool:
        left[:] = [one.id for one in await stage.instances(_S.TERMINATED) if one.id != drained]
        return bool(left)

    await stage.wait(ended, "the scale-in's end")
    assert set(stage.cluster.engine_processes()) == {one.id for one in await stage.until_serving(1)}
    story = ["scale_out", "scale_in", "reinstate", "scale_in", "finish_scale_in"]
    decided = [action for action in await stage.actions() if action in story]
    assert decided == story
    return left[0]


def _gone(process: psutil.Process) -> bool:
    try:
        process.wait(30)
    except psutil.TimeoutExpired:
        return False
    return not process.is_running()
