"""A release in place of another while engines serve: up, back again, and away.

The agents are installed ones, by deploy/install.sh, each release in an environment of its own. The
test is what systemd is elsewhere: it stops the agent alone and starts what `current` points to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heteroscale_agent.journal import peek
from heteroscale_workbench.cluster.local import Layout
from heteroscale_workbench.cluster.processes import Part
from tests.packaging import releases
from tests.packaging.releases import Host
from tests.process import fleet
from tests.process.conftest import left_of
from tests.process.stage import RULES, Stage

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]
OLD, NEW = "0.1.0", "0.1.1"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    built = releases.build(tmp_path_factory.mktemp("built"), OLD, NEW)
    return dict(zip((OLD, NEW), built, strict=True))


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return releases.lend(tmp_path_factory.mktemp("lent") / "libraries")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return fleet.layout(
        tmp_path, options=("--kv-lease", "8"), hosts=fleet.hosts("L20", gpus=3), rules=RULES
    )


@pytest.fixture
async def stage(layout: Layout) -> AsyncIterator[Stage]:
    async with fleet.fleet(layout) as made:
        yield Stage(made.cluster, made.operator)
    assert left_of(layout.directory) == []


class Supervisor:
    """Keeps the one agent of a stage running from an installed release."""

    def __init__(self, stage: Stage, host: Host) -> None:
        self.stage, self.host = stage, host
        self.agent: Part = stage.cluster.agents["agent-0"]
        self.agent.command = (
            str(host.prefix / "current/bin/heteroscale-agent"),
            *("run", "-c", str(stage.cluster.directory / "agent-0/agent.yaml")),
        )
        self.agent.environ["PYTHONPATH"] = str(host.lent)

    async def restart(self, version: str) -> None:
        """Stop the agent alone, start it again, and wait until the coordinator hears the release."""
        await self.agent.stop()
        await self.agent.start()

        async def heard() -> bool:
            nodes = await self.stage.operator.nodes()
            return [(n.connected, n.agent_version) for n in nodes] == [(True, version)]

        await self.stage.until(heard, f"release {version} of the agent")


async def test_up_and_back_with_engines_under_load(
    stage: Stage, tmp_path: Path, wheels: dict[str, Path], lent: Path
) -> None:
    host = Host(tmp_path / "opt", lent)
    await asyncio.to_thread(host.install, "--from", wheels[OLD])
    keeper = Supervisor(stage, host)
    await keeper.restart(OLD)
    await stage.want(1, 1)
    before = await stage.until_serving(1, 1)
    async with stage.traffic():
        await asyncio.to_thread(host.install, "--from", wheels[NEW])
        assert host.current == NEW
        await keeper.restart(NEW)
        assert await stage.until_serving(1, 1) == before
        # The new release works on: what it starts, the one before must take over in turn.
        await stage.want(1, 2)
        grown = await stage.until_serving(1, 2)
        assert before.items() <= grown.items()
        await asyncio.to_thread(host.install, "--rollback")
        assert host.current == OLD
        await keeper.restart(OLD)
        assert await stage.until_serving(1, 2) == grown
    assert stage.starts() == dict.fromkeys(grown, 1)
    ledger, damaged = await asyncio.to_thread(peek, stage.cluster.directory / "agent-0/state")
    assert (ledger.release, damaged) == (OLD, 0)


async def test_removed_only_when_nothing_is_lost(
    stage: Stage, tmp_path: Path, wheels: dict[str, Path], lent: Path
) -> None:
    host = Host(tmp_path / "opt", lent)
    config = stage.cluster.directory / "agent-0/agent.yaml"
    (host.prefix / "etc").mkdir(parents=True)
    (host.prefix / "etc/agent.yaml").symlink_to(config)
    await asyncio.to_thread(host.install, "--from", wheels[OLD])
    keeper = Supervisor(stage, host)
    await keeper.restart(OLD)
    await stage.want(1, 1)
    before = await stage.until_serving(1, 1)
    said = await asyncio.to_thread(host.install, "--uninstall", status=1)
    for instance_id, (pid, _) in before.items():
        assert f"{pid} {instance_id}" in said
    said = await asyncio.to_thread(host.install, "--uninstall", "--leave-engines", status=1)
    assert "an agent still runs" in said
    assert host.current == OLD
    await keeper.agent.stop()
    await asyncio.to_thread(host.install, "--uninstall", "--leave-engines")
    assert sorted(path.name for path in host.prefix.iterdir()) == ["etc"]
    assert config.exists()
    assert stage.started() == before
