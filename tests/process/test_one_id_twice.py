"""Two agents with one id: the second is told so and does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from heteroscale.convert import seconds
from heteroscale_workbench.cluster.processes import Part
from tests.process.fleet import Fleet, fleet, hosts, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("twice")
    async with fleet(layout(folder, hosts=hosts("H20"))) as made:
        await made.serve()
        yield made


async def _unharmed(
    world: Fleet, first: Part, pid: int, engines: dict[str, tuple[int, float]]
) -> None:
    """Check that the first agent is the same process, still heard, with the same engines."""
    assert (first.pid, world.started()) == (pid, engines)
    clock = asyncio.get_running_loop().time
    began = clock()

    async def heard() -> bool:
        (node,) = await world.operator.nodes()
        return node.connected and seconds(node.silent) < clock() - began

    await world.until(heard, "a report of the first agent")
    assert "stream lost" not in first.tail(1_000)


async def test_a_second_agent_on_the_same_state_directory_does_not_start(world: Fleet) -> None:
    first = world.cluster.agents["agent-0"]
    pid, engines = first.pid, world.started()
    second = Part("second", first.command, first.log.with_name("second.log"), first.environ)
    await second.start()
    async with asyncio.timeout(20):
        assert await second.ended() == 1
    state = first.log.parent / "state"
    assert f"heteroscale agent: state directory {state} is held by another agent" in second.tail()
    await _unharmed(world, first, pid, engines)


def _copy(first: Part, folder: Path) -> Part:
    """Return an agent of the same configuration but for its state directory."""
    document = yaml.safe_load(Path(first.command[-1]).read_text("utf-8"))
    document["spec"]["stateDir"] = str(folder / "state")
    config = folder / "agent.yaml"
    config.write_text(yaml.safe_dump(document), "utf-8")
    command = (*first.command[:-1], str(config))
    return Part("second", command, folder / "second.log", first.environ)


async def test_a_second_agent_with_a_copied_id_is_refused_in_words(
    world: Fleet, tmp_path: Path
) -> None:
    first = world.cluster.agents["agent-0"]
    pid, engines = first.pid, world.started()
    second = _copy(first, tmp_path)
    await second.start()
    try:

        async def refused_twice() -> bool:
            second.require()
            return second.tail(100).count("ALREADY_EXISTS") >= 2

        await world.until(refused_twice, "the second agent to be refused")
        words = second.tail(100)
        assert "'agent-0'" in words
        assert "last heard" in words
        await _unharmed(world, first, pid, engines)
    finally:
        await second.stop()
    assert '"event": "connected"' not in second.tail(1_000)
