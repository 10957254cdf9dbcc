"""From load to jobs of a real Slurm, and back."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.slurm.host import WHY_NOT
from tests.slurm.stage import stage

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None, reason="needs sglang-router"
    ),
]


async def test_both_roles_go_out_and_in_with_the_traffic(tmp_path: Path) -> None:
    async with stage(tmp_path) as run:
        await run.apply((1, 2), (2, 4))
        await run.until_serving(1, 2)
        async with run.traffic(1.0):
            async with run.traffic(9.0):
                await run.until_serving(2, 4)
                await run.under_one_leaf()
            await run.until_serving(1, 2)
        await run.under_one_leaf()
        await run.steps_were_whole()
        ended = [job.state for job in await run.jobs() if job.state != "RUNNING"]
        assert ended == ["COMPLETED"] * 3, "each was told to end, and none was cut"


PREEMPTION = [
    "SlurmdTimeout=4",
    "PreemptType=preempt/partition_prio",
    "PreemptMode=CANCEL",
    # Without it Slurm warns steps alone, and the agent is the batch script.
    "SlurmctldParameters=preempt_send_user_signal",
    "PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=120 State=UP",
    "PartitionName=urgent Nodes=ALL PriorityTier=9 State=UP",
]
LIMITED = {"timeLimit": "1h", "warning": "30s"}


async def test_what_happens_to_a_slurm_costs_no_request(tmp_path: Path) -> None:
    async with stage(tmp_path, lines=PREEMPTION, job=LIMITED) as run:
        slurm = run.slurm.cluster
        await run.apply((2, 2), (2, 2))
        await run.until_serving(2, 2)
        before = await run.jobs("RUNNING")
        async with run.traffic(2.0):
            await slurm.stop_controller()
            await run.until_told("cluster does not answer")
            await slurm.start_controller()
            await run.until_serving(2, 2)
            assert await run.jobs("RUNNING") == before, "who cannot ask moves nobody"

            # One GPU more than is free there: one of ours has to leave. Its agent drains it.
            node = before[0].node
            free = 2 - sum(job.node == node for job in before)
            urgent = ["-p", "urgent", "-w", node, f"--gres=gpu:{free + 1}", "--wrap", "sleep 1000"]
            await slurm.run("sbatch", "-o", "/dev/null", *urgent)
            await run.until_gone(*before)
            await run.until_serving(2, 2)
        await run.under_one_leaf()

        # What runs on a host that dies is cut, whoever watches: here nothing does.
        there = await run.jobs("RUNNING")
        lost = [job for job in there if job.node == there[0].node]
        await slurm.lose_node(lost[0].node)
        await run.until_gone(*lost)
        await run.until_serving(2, 2)
        assert lost[0].node not in {job.node for job in await run.jobs("RUNNING")}
        async with run.traffic(2.0) as load:
            await run.until_answered(load, 10)


RENEWAL = {"ahead": "60s", "emptying": "10s", "margin": "0s"}


async def test_a_time_limit_is_met_by_a_successor_first(tmp_path: Path) -> None:
    async with stage(tmp_path, job=LIMITED) as run:
        slurm = run.slurm.cluster
        await run.apply((1, 1), (2, 2), renewal=RENEWAL)
        await run.until_serving(1, 2)
        old = next(job for job in await run.jobs("RUNNING") if job.role == "decode")
        async with run.traffic(2.0):
            await slurm.run("scontrol", "update", f"JobId={old.number}", "EndTime=now+80")
            await run.until_gone(old)
            await run.until_serving(1, 2)
        (ended,) = [job for job in await run.jobs() if job.state != "RUNNING"]
        assert (ended.number, ended.state) == (old.number, "COMPLETED"), "not TIMEOUT"
        new = (await run.jobs())[-1]
        assert await run.moment(new, "%S") < await run.moment(old, "%e"), "a successor first"
