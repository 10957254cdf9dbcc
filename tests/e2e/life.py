"""One story for every engine: out, in, back, in again and gone, under load, with no request lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psutil

from heteroscale.words import InstanceState
from tests.e2e.stage import POLICY, Stage, held_still, service
from tests.e2e.traffic import Traffic
from tests.process.fleet import Seen

_S = InstanceState


LONG_AT_ONCE = 8
"""Long answers that are kept in flight; the router spreads them evenly over two engines."""
IDLE_LOOKS = 3
LONG_OBSERVATION, SHORT_OBSERVATION = "20m", "15s"
"""How long a withdrawn instance is watched: longer than any machine takes to want it back, and no
longer than a person would wait."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the story plays, in tokens; ``target`` is what one instance should carry, a second."""

    running: str
    """The engine's own gauge of running requests."""
    waiting: str
    """Its gauge of those it has not begun."""
    target: float = 60.0
    busy: float = 150.0
    calm: float = 15.0
    prompt: int = 32
    output: int = 20
    long_output: int = 2000
    """Of requests that are in flight when their instance is drained."""


async def whole_life(stage: Stage, template: str, load: Load) -> None:
    """Play the story and assert it; returns when every request has been answered well."""
    await _apply(stage, template, load, LONG_OBSERVATION)
    (first,) = await stage.until_serving(1)
    async with stage.traffic(load.prompt, load.output) as traffic:
        await _scraped(stage, traffic, load)
        await _grows(stage, traffic, load)
        await _apply(stage, template, load, LONG_OBSERVATION, least=2)
        drained = await _drained_while_busy(stage, traffic, load)
        await _apply(stage, template, load, LONG_OBSERVATION)
        await _shrinks_and_grows_back(stage, traffic, load)
        await _apply(stage, template, load, SHORT_OBSERVATION)
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


async def _apply(stage: Stage, template: str, load: Load, observation: str, least: int = 1) -> None:
    bounds = {"min": least, "max": 2, "target": load.target}
    role = {"template": template, **bounds, "startupTimeout": "6m"}
    gate = {"kind": "sglang-router", "routers": [stage.cluster.url]}
    policy = {**POLICY, "observation": observation}
    await stage.operator.apply(service({"aggregated": role}, gate, policy=policy))


async def _scraped(stage: Stage, traffic: Traffic, load: Load) -> None:
    """The agent reads the engine: its tokens are the service's demand."""
    traffic.level = load.calm

    async def told() -> bool:
        (one,) = await stage.operator.instances()
        known = one.HasField("running") and one.HasField("waiting")
        return known and one.HasField("tokens_per_second") and one.tokens_per_second > 0

    await stage.wait(told, "the engine's tokens in the coordinator's eyes")


async def _grows(stage: Stage, traffic: Traffic, load: Load) -> None:
    traffic.level = load.busy
    await _two_serve(stage)
    assert await stage.actions() == ["repair", "scale_out"]


async def _two_serve(stage: Stage) -> None:
    """Wait until two are in service, and both have been sent requests."""
    both = {one.id for one in await stage.until_serving(2)}

    async def sent() -> bool:
        served = stage.served()
        return all(served.get(name, 0) > 0 for name in both)

    await stage.wait(sent, "requests at both engines")


async def _drained_while_busy(stage: Stage, traffic: Traffic, load: Load) -> str:
    """An operator drains one in the midst of long answers: they end well, then it ends.

    A fast engine would be through with them before its drain has begun. So it is held still from the
    midst of its work on, until its gate is closed and no other engine has anything left to do: what is
    in flight then is its own.
    """
    # Nothing but long answers; an engine that counts tokens when they end shows no demand meanwhile.
    await stage.until_answered(traffic)
    traffic.keep(LONG_AT_ONCE, load.prompt, load.long_output)
    victim = await _deep_in_work(stage, load)
    process = stage.process(victim.id)
    with held_still(process):
        await stage.operator.drain(victim.id)
        await stage.until_out(victim)
        traffic.let_go()
        await _others_idle(stage, traffic, load)
        assert traffic.in_flight > 0
        assert (await stage.instance(victim.id)).state is _S.DRAINING
    traffic.level = load.busy
    done = await stage.until_state(victim.id, _S.TERMINATED)
    assert await asyncio.to_thread(_gone, process), done.message
    # Another has taken its place, or is about to.
    await _two_serve(stage)
    return victim.id


async def _deep_in_work(stage: Stage, load: Load) -> Seen:
    """Wait until both engines say that they are at work; return the busier one."""
    both = await stage.until_serving(2)
    running: dict[str, float] = {}

    async def deep() -> bool:
        for one in both:
            running[one.id] = await stage.metric(one, load.running)
        return min(running.values()) >= 1 and max(running.values()) > 1

    await stage.wait(deep, "long answers at both engines")
    return max(both, key=lambda one: running[one.id])


async def _others_idle(stage: Stage, traffic: Traffic, load: Load) -> None:
    """Wait until no engine in service has anything to do, and what is in flight stays in flight."""
    looks: list[int] = []

    async def idle() -> bool:
        for one in await stage.instances(_S.IN_SERVICE):
            for gauge in (load.running, load.waiting):
                if await stage.metric(one, gauge) > 0:
                    looks.clear()
                    return False
        looks.append(traffic.in_flight)
        return len(looks) >= IDLE_LOOKS and len(set(looks[-IDLE_LOOKS:])) == 1

    await stage.wait(idle, "engines with nothing to do")


async def _shrinks_and_grows_back(stage: Stage, traffic: Traffic, load: Load) -> None:
    """Soft scale-in: out of the router, running on, and back as the same process."""
    traffic.level = load.calm
    soft = await stage.until_one(_S.WITHDRAWN)
    process = stage.process(soft.id)
    await stage.until_out(soft)
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
