"""The disk under the coordinator's store is full: nothing is decided, nothing changes, it heals.

Twice: on a small file system that is really full, logs included, where this machine lets us mount
one; and with the kernel refusing every longer file to the coordinator's process.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import grpc
import psutil
import pytest

from heteroscale.words import InstanceState
from heteroscale_workbench.cluster.local import Layout
from heteroscale_workbench.cluster.operator import Error
from tests.process import fleet
from tests.process.stage import SHORT_LEASE, Stage

pytestmark = pytest.mark.process
_S = InstanceState
SIZE = 4 * 1024 * 1024


class Mounted:
    """A small file system of its own for the coordinator's data and log."""

    def __init__(self, stage: Stage) -> None:
        self._filler = stage.cluster.directory / "coordinator" / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            for block in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(block)) == block:
                        pass
            with pytest.raises(OSError) as refused:
                file.write(b"x")
        assert refused.value.errno == errno.ENOSPC

    def free(self) -> None:
        self._filler.unlink()


class Limited:
    """A limit on how long a file the coordinator's process may write."""

    def __init__(self, stage: Stage) -> None:
        self._process = psutil.Process(stage.cluster.coordinator.pid)
        self._before = self._process.rlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        self._process.rlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def free(self) -> None:
        self._process.rlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture(params=[Mounted, Limited])
def kind(request: pytest.FixtureRequest, layout: Layout) -> Iterator[type[Mounted | Limited]]:
    """Mount the file system where the coordinator will write, if it is that kind."""
    found: type[Mounted | Limited] = request.param
    if found is Limited:
        yield found
        return
    place = layout.directory / "coordinator"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    (layout.directory / "coordinator.log").symlink_to(place / "coordinator.log")
    try:
        yield found
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
async def stage(layout: Layout, kind: type[Mounted | Limited]) -> AsyncIterator[Stage]:
    async with fleet.fleet(layout) as made:
        yield Stage(made.cluster, made.operator)


async def test_a_full_disk_freezes_decisions_and_renews_leases(
    stage: Stage, kind: type[Mounted | Limited]
) -> None:
    stage.lease = SHORT_LEASE
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    disk = kind(stage)
    async with stage.traffic():
        await stage.want(1, 2)
        out = await stage.until_any(_S.WITHDRAWN)
        disk.fill()

        async def red() -> bool:
            page = await stage.page("/readyz")
            return page.status_code == 503 and "the store cannot commit" in page.text

        async def refused() -> bool:
            try:
                await stage.want(1, 3)
            except Error as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await stage.until(refused, "an operator's wish to be refused as UNAVAILABLE")
        await stage.until(red, "/readyz to be red, with words")
        actions = await stage.actions()

        async def changed() -> bool:
            moved = await stage.ids(_S.WITHDRAWN) != {out}
            return moved or not await red() or await stage.actions() != actions

        # Longer than the lease: what is withdrawn stays so, for its lease is renewed all the same.
        await stage.never(changed, "something changed on a full disk", 1.5 * stage.lease)
        assert (await stage.page("/healthz")).status_code == 200
        disk.free()

        async def green() -> bool:
            return (await stage.page("/readyz")).status_code == 200

        await stage.until(green, "/readyz to be green by itself")
        assert await stage.ids(_S.WITHDRAWN) == {out}
        await stage.want(1, 3)
        assert await stage.until_serving(1, 3) == before
    assert stage.starts() == dict.fromkeys(before, 1)


async def test_what_dies_on_a_full_disk_is_replaced_when_there_is_space_again(
    stage: Stage, kind: type[Mounted | Limited]
) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    disk = kind(stage)
    disk.fill()
    victim = (await stage.ids(_S.IN_SERVICE)).pop()
    stage.process(victim).kill()

    async def red() -> bool:
        return (await stage.page("/readyz")).status_code == 503

    await stage.until(red, "/readyz to be red")
    await stage.never(lambda: stage.ids(_S.PENDING, _S.LAUNCHING), "a launch uncommitted", 2.0)
    assert stage.starts() == dict.fromkeys(before, 1)
    disk.free()
    after = await stage.until_serving(1, 2)
    assert victim not in after
    assert stage.starts() == dict.fromkeys([*before, *after], 1)
