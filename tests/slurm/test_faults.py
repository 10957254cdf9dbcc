"""What goes wrong in a real Slurm is said, survived, and breaks no step in two."""

from __future__ import annotations

import asyncio
import os

import psutil
import pytest

from heteroscale_scheduler_adapters.port import Phase, RefusedError, UnavailableError
from heteroscale_scheduler_adapters.slurm.adapter import SlurmAdapter
from tests.slurm.files import Machine
from tests.slurm.host import WHY_NOT
from tests.slurm.rig import Between, Told, launch, phase_of, step, told

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
P = Phase
IMPATIENT = {"timeout": "2s"}
"""Slurm's clients wait for ever on a controller that hangs; ours do not."""


async def test_a_node_that_dies_and_a_limit_that_is_reached_take_their_instances_alone() -> None:
    async with told(lines=["SlurmdTimeout=3"]) as slurm:
        adapter = await slurm.adapter()
        names = {f"i-{n}": f"n{n}" for n in (1, 2, 3)}
        await adapter.launch(step("r1", *(launch(one, node) for one, node in names.items())))
        for name in names:
            await slurm.phase(adapter, name, P.READY)
        await slurm.cluster.kill_node("n1")
        # Slurm looks for limits that were reached twice a minute.
        await slurm.cluster.run(
            "scontrol", "update", f"JobId={await slurm.job('i-3')}", "EndTime=now+3"
        )
        one = await slurm.phase(adapter, "i-1", P.FAILED)
        assert "NODE_FAIL: a node of it failed" in one.message
        world = await slurm.until(adapter, lambda w: not w.nodes["n1"].holdings)
        assert "down" in world.nodes["n1"].closed
        assert len(world.nodes["n1"].gpus) == 8, "it is not gone, and may come back"
        assert phase_of(world, "i-2") is P.READY
        await slurm.cluster.start_node("n1")
        await slurm.until(adapter, lambda w: not w.nodes["n1"].closed)
        await adapter.launch(step("r2", launch("i-4", "n1")))
        await slurm.phase(adapter, "i-4", P.READY)
        three = await slurm.phase(adapter, "i-3", P.FAILED)
        assert "TIMEOUT: its time limit was reached" in three.message
        await slurm.until(adapter, lambda w: not w.nodes["n3"].holdings)


async def test_a_controller_that_hangs_dies_and_comes_back_loses_and_doubles_nothing() -> None:
    async with told() as slurm:
        adapter = await slurm.adapter()
        await adapter.launch(step("r1", launch("i-1", "n1")))
        await slurm.phase(adapter, "i-1", P.READY)
        hasty = await slurm.adapter(**IMPATIENT)
        slurm.cluster.pause_controller()
        await _not_known(hasty, "no answer within 2 s")
        assert _clients() == [], "no client is left waiting"
        slurm.cluster.resume_controller()
        await slurm.until(adapter, lambda w: phase_of(w, "i-1") is P.READY)

        # It hangs just when the jobs are handed in: taken they may be, and asking again is safe.
        asked = step("r2", launch("i-2", "n2"), launch("i-3", "n3"))
        Between(hasty, "submit", slurm.cluster.pause_controller)
        with pytest.raises(UnavailableError):
            await hasty.launch(asked)
        slurm.cluster.resume_controller()
        await slurm.until(adapter, lambda w: bool(w.nodes))
        await adapter.launch(asked)
        for name in ("i-2", "i-3"):
            await slurm.phase(adapter, name, P.READY)
            await _one_job(slurm, adapter, name)

        # Not by KILL: jobs of the last seconds are not in its state yet, and Slurm itself forgets them.
        await slurm.cluster.stop_controller()
        await _not_known(hasty, "scontrol|sinfo|squeue|sbatch|scancel")
        await slurm.cluster.start_controller()
        world = await slurm.until(
            adapter, lambda w: all(phase_of(w, f"i-{n}") is P.READY for n in (1, 2, 3))
        )
        assert {h.instance_id for node in world.nodes.values() for h in node.holdings} == {
            "i-1",
            "i-2",
            "i-3",
        }

        await slurm.cluster.stop_munge()
        with pytest.raises(UnavailableError, match=r"(?i)munge|authentication"):
            await adapter.world()
        with pytest.raises(UnavailableError, match=r"(?i)munge|authentication"):
            await adapter.launch(step("r4", launch("i-4", "n4")))
        with pytest.raises(UnavailableError):
            await adapter.stop("i-1", 1.0)
        slurm.cluster.start_munge()
        world = await slurm.until(adapter, lambda w: phase_of(w, "i-1") is P.READY)
        assert "i-4" not in world.running


async def _not_known(adapter: SlurmAdapter, why: str) -> None:
    with pytest.raises(UnavailableError, match=why):
        await adapter.world()
    with pytest.raises(UnavailableError, match=why):
        await adapter.launch(step("r0", launch("i-0", "n1")))
    with pytest.raises(UnavailableError, match=why):
        await adapter.stop("i-1", 1.0)


def _clients() -> list[str]:
    names = {"sinfo", "squeue", "sbatch", "scontrol", "scancel"}
    ours = psutil.Process(os.getpid()).children(recursive=True)
    return [one.name() for one in ours if one.name() in names]


async def _one_job(slurm: Told, adapter: SlurmAdapter, instance: str) -> None:
    """A job that was taken late is a twin, and goes; the one that runs stays."""
    async with asyncio.timeout(60):
        while len(await slurm.jobs(instance)) > 1:
            await adapter.world()


async def test_a_job_stuck_in_completing_is_told_and_holds_up_nobody_else() -> None:
    async with told() as slurm:
        folder = slurm.cluster.folder
        epilog = folder / "epilog"
        epilog.write_text(f"#!/bin/sh\nwhile test -e {folder}/stuck; do sleep 0.1; done\n")
        epilog.chmod(0o755)
        (folder / "stuck").touch()
        slurm.cluster.files = slurm.cluster.files.also(f"Epilog={epilog}")
        slurm.cluster.write()
        await slurm.cluster.run("scontrol", "reconfigure")
        adapter = await slurm.adapter(stuckAfter="1s")
        await adapter.launch(step("r1", launch("i-1", "n1"), launch("i-2", "n2")))
        await slurm.phase(adapter, "i-1", P.READY)
        await adapter.stop("i-1", 30.0)
        world = await slurm.until(adapter, lambda w: any("COMPLETING" in n for n in w.notes))
        assert phase_of(world, "i-1") is P.STOPPING
        assert world.nodes["n1"].closed.startswith("completing a job")
        assert [h.instance_id for h in world.nodes["n1"].holdings] == ["i-1"], "still taken"
        await adapter.stop("i-1", 0.0)
        await adapter.launch(step("r2", launch("i-3", "n3")))
        await slurm.phase(adapter, "i-3", P.READY)
        (folder / "stuck").unlink()
        await slurm.phase(adapter, "i-1", P.ENDED)
        await slurm.until(adapter, lambda w: not w.nodes["n1"].closed)


async def test_a_node_renamed_between_two_looks_is_another_node() -> None:
    machines = [Machine("n1", "gpu:H20:8", "leaf1"), Machine("n2", "gpu:H20:8", "leaf2")]
    async with told(machines) as slurm:
        adapter = await slurm.adapter()
        await adapter.launch(step("r1", launch("i-1", "n1"), launch("i-2", "n2")))
        await slurm.phase(adapter, "i-2", P.READY)
        await slurm.cluster.kill_node("n2")
        await slurm.cluster.stop_controller()
        slurm.cluster.machines[1] = Machine("new", "gpu:H20:8", "leaf2")
        slurm.cluster.write()
        await slurm.cluster.start_controller()
        await slurm.cluster.start_node("new")
        world = await slurm.until(adapter, lambda w: "new" in w.nodes and not w.nodes["new"].closed)
        assert "n2" not in world.nodes
        assert world.nodes["new"].topology["s1"] == "leaf2"
        assert phase_of(world, "i-1") is P.READY
        world = await slurm.until(adapter, lambda w: phase_of(w, "i-2") in (P.FAILED, None))
        assert not world.nodes["new"].holdings
        with pytest.raises(RefusedError, match="no node n2"):
            await adapter.launch(step("r2", launch("i-3", "n2")))
        await adapter.launch(step("r3", launch("i-4", "new")))
        await slurm.phase(adapter, "i-4", P.READY)


async def test_a_step_is_whole_whoever_meddles() -> None:
    async with told() as slurm:
        adapter = await slurm.adapter()

        async def cancels() -> None:
            await slurm.cluster.run("scancel", await slurm.job("i-2"))

        Between(adapter, "release", cancels)
        with pytest.raises(RefusedError):
            await adapter.launch(step("r1", launch("i-1", "n1"), launch("i-2", "n2")))
        world = await slurm.until(adapter, lambda w: phase_of(w, "i-1") is P.FAILED)
        assert not world.nodes["n1"].holdings
        with pytest.raises(RefusedError, match="taken back"):
            await adapter.launch(step("r1", launch("i-1", "n1"), launch("i-2", "n2")))

        # Its process ends after the first of two jobs: nobody goes on with it, so it is taken back.
        half = await slurm.adapter()
        gone = asyncio.get_running_loop().create_future()
        Between(half, "release", lambda: gone)
        work = asyncio.create_task(
            half.launch(step("r3", launch("i-3", "n3"), launch("i-4", "n4")))
        )
        await slurm.cluster.until(lambda said: said.count("i-") >= 2, "squeue", "-h", "-o", "%k")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await slurm.cluster.run("scancel", await slurm.job("i-4"))
        later = await slurm.adapter(halfStepAfter="1s")
        world = await slurm.until(later, lambda w: phase_of(w, "i-3") is P.FAILED)
        assert not world.nodes["n3"].holdings


async def test_what_admins_and_others_do_is_seen_and_left_alone() -> None:
    async with told() as slurm:
        run = slurm.cluster.run
        adapter = await slurm.adapter()
        await run("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=bad fan")
        soon = ["StartTime=now", "Duration=60", "Users=nobody", "Nodes=n2"]
        await run("scontrol", "create", "reservation", "ReservationName=exam", *soon)
        asked = ["-w", "n3", "--gres=gpu:3", "--uid=nobody", "--chdir=/tmp", "--wrap", "sleep 1000"]
        theirs = (await run("sbatch", "--parsable", "-o", "/dev/null", *asked)).strip()
        world = await slurm.until(adapter, lambda w: bool(w.nodes["n3"].holdings))
        assert "bad fan" in world.nodes["n1"].closed
        assert world.nodes["n2"].closed == "reserved (exam) for users nobody"
        (held,) = world.nodes["n3"].holdings
        assert (held.holder, held.gpus, held.instance_id) == (f"job/{theirs} (nobody)", 3, "")
        with pytest.raises(RefusedError, match="not ours"):
            await adapter.stop(f"hpc.job-{theirs}", 1.0)

        # Two ranks that are bound to one leaf, not to nodes: Slurm picks, and the leaf is one.
        loose = await slurm.adapter(job={"pin": "switches"})
        await loose.launch(step("r1", launch("i-1", "n5", "n6", gpus=8)))
        await adapter.launch(step("r2", launch("i-2", "n4", "n7")))
        await slurm.phase(adapter, "i-1", P.READY)
        await slurm.phase(adapter, "i-2", P.READY)
        assert len({slurm.leaf(node) for node in await slurm.nodes("i-1")}) == 1
        assert await slurm.nodes("i-2") == ["n4", "n7"]
