"""An agent within a scheduler's job, in virtual time: its one launch, its leaving, its end."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import WITHIN, InstanceState, Outcome
from heteroscale_agent.__main__ import parser
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.job import Claim, Duty, End, Post
from heteroscale_agent.job.options import (
    JobError,
    agent_id_of,
    claim_of,
    incarnation_of,
    narrowed,
)
from heteroscale_agent.model import Gpu, Reinstate, Terminate
from tests.agent.body_twins import IDLE, SOFT, World, drain, launch

CLAIM = Claim("i1", 0, "east/n0", leave_within=40.0, wait=60.0)
JOBS = launch(gpu_indices=())


class JobWorld(World):
    """The agent of a job; it gets as far as its duty lets it."""

    def __init__(self, folder: Path, claim: Claim = CLAIM) -> None:
        super().__init__(folder, post=Post(claim))

    @property
    def duty(self) -> Duty:
        assert self.body.duty is not None
        return self.body.duty

    async def signal(self) -> None:
        """Have the scheduler tell it to end."""
        self.duty.told_to_end()
        await self.duty.leave()

    def ends(self) -> End | None:
        """Return how it ends, if it is to end now."""
        return self.duty.end()


@pytest.fixture
async def job(tmp_path: Path) -> AsyncIterator[JobWorld]:
    world = JobWorld(tmp_path)
    await world.body.start()
    yield world
    await world.body.close()


async def in_service(job: JobWorld) -> None:
    assert (await job.do(JOBS)).outcome is Outcome.DONE
    await job.passes(2)
    assert job.status().state is InstanceState.IN_SERVICE


async def test_the_launch_takes_the_gpus_of_the_job(tmp_path: Path) -> None:
    job = JobWorld(tmp_path, replace(CLAIM, devices=("2", "3")))
    await job.body.start()
    await in_service(job)
    assert job.status().gpu_indices == (2,)
    assert job.processes.running[job.processes.only].env["CUDA_VISIBLE_DEVICES"] == "2"
    assert job.ends() is None
    await job.body.close()


async def test_engines_of_several_ranks_are_deaf_to_the_warning(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await job.body.start()
    await job.do(replace(JOBS, rank_count=2))
    shielded = job.processes.running[job.processes.only].command
    await job.body.close()
    assert shielded[:2] == ["/bin/sh", "-c"]
    script = 'kill -USR1 $$; echo "$0 $@"'
    process = await asyncio.create_subprocess_exec(
        *(*shielded[:4], "/bin/sh", "-c", script, *shielded[4:]), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (process.returncode, out.split()[0]) == (0, b"engine")


async def test_it_stands_for_one_rank_alone(job: JobWorld) -> None:
    answer = await job.do(JOBS, "i2")
    assert (answer.outcome, answer.message) == (
        Outcome.REFUSED,
        "this agent stands for rank 0 of i1 alone",
    )
    assert (await job.do(Terminate(1.0), "i2")).outcome is Outcome.REFUSED
    await in_service(job)


async def test_a_drained_instance_ends_the_job_well(job: JobWorld) -> None:
    await in_service(job)
    await job.do(drain())
    await job.passes(10)
    assert job.status().state is InstanceState.TERMINATED
    assert job.ends() == End(0, job.status().message)


async def test_an_engine_that_ends_by_itself_ends_the_job_as_failed(job: JobWorld) -> None:
    await in_service(job)
    job.processes.end(job.processes.only, 3)
    await job.passes(1)
    end = job.ends()
    assert end is not None
    assert end.status == 1
    assert "exited with code 3" in end.why


async def test_a_signal_drains_and_then_ends(job: JobWorld) -> None:
    await in_service(job)
    job.eyes.scrape = replace(IDLE, running=2.0)
    await job.signal()
    await job.passes(10)
    assert job.status().state is InstanceState.DRAINING
    assert not job.processes.terminated
    assert "i1" not in job.gate.places["r1"]
    job.eyes.scrape = IDLE
    await job.passes(2)
    end = job.ends()
    assert end is not None
    assert end.status == 0
    assert "quiet in 3 scrapes" in end.why


async def test_it_is_over_in_time_whatever_runs(job: JobWorld) -> None:
    await in_service(job)
    job.eyes.scrape = replace(IDLE, running=2.0)
    job.processes.obeys_term = False
    await job.signal()
    await job.passes(CLAIM.leave_within)
    assert job.processes.killed
    end = job.ends()
    assert end is not None
    assert "FORCED" in end.why


async def test_a_second_signal_waits_for_no_request(job: JobWorld) -> None:
    await in_service(job)
    job.eyes.scrape = replace(IDLE, running=2.0)
    await job.signal()
    await job.passes(1)
    assert not job.processes.terminated
    await job.signal()
    await job.passes(1)
    assert job.ends() is not None


async def test_who_leaves_does_not_come_back(job: JobWorld) -> None:
    await in_service(job)
    job.eyes.scrape = replace(IDLE, running=2.0)
    await job.signal()
    assert (await job.do(Reinstate())).outcome is Outcome.REFUSED
    command = job.command(drain(lease=1.0))
    assert (await job.body.execute(command)).outcome is Outcome.ACCEPTED
    job.body.renew(["i1"], job.clock.now + 5)
    await job.passes(20)  # the coordinator's lease is long over
    assert job.status().state is InstanceState.DRAINING
    job.eyes.scrape = IDLE
    await job.passes(2)
    assert [(one.command_id, one.outcome) for one in job.results()] == [
        (command.command_id, Outcome.DONE)
    ]


async def test_a_drain_under_way_goes_on_without_its_lease(job: JobWorld) -> None:
    await in_service(job)
    job.eyes.scrape = replace(IDLE, running=2.0)
    await job.do(drain(lease=20.0))
    await job.passes(15)
    await job.signal()
    await job.passes(15)
    assert job.status().state is InstanceState.DRAINING
    await job.passes(20)
    assert job.ends() is not None


async def test_what_is_withdrawn_leaves_too(job: JobWorld) -> None:
    await in_service(job)
    await job.do(SOFT)
    await job.signal()
    await job.passes(10)
    end = job.ends()
    assert end is not None
    assert end.status == 0


async def test_what_still_starts_is_stopped(job: JobWorld) -> None:
    job.probe.answer = False
    await job.do(JOBS)
    await job.passes(1)
    await job.signal()
    await job.passes(1)
    end = job.ends()
    assert end is not None
    assert end.status == 0
    assert "its job ends before it was ready" in end.why


async def test_it_goes_when_nobody_needs_it(job: JobWorld) -> None:
    command = job.command(Terminate(5.0), cause="not needed: its instance is replaced")
    assert (await job.body.execute(command)).outcome is Outcome.DONE
    assert job.ends() == End(0, "not needed: its instance is replaced")


async def test_it_goes_when_told_to_before_anything_began(job: JobWorld) -> None:
    assert job.ends() is None
    await job.signal()
    assert job.ends() == End(0, "told to end before anything was started")
    assert (await job.do(JOBS)).outcome is Outcome.REFUSED


async def test_a_launch_that_cannot_be_ends_the_job(job: JobWorld) -> None:
    await job.do(replace(JOBS, template="other"))
    end = job.ends()
    assert end is not None
    assert (end.status, end.why[:52]) == (
        1,
        "its launch was refused: no template 'other' in this ",
    )


async def test_a_full_disk_ends_the_job(job: JobWorld) -> None:
    job.write_fails = True
    assert (await job.do(JOBS)).outcome is Outcome.REFUSED
    end = job.ends()
    assert end is not None
    assert (end.status, end.why[:51]) == (
        1,
        "its launch was refused: journal cannot be written: ",
    )
    assert not job.processes.spawned


async def test_nothing_starts_while_the_last_words_are_on_their_way(job: JobWorld) -> None:
    await job.passes(CLAIM.wait + 1, step=10.0)
    assert (await job.duty.run()).status == 1
    assert (await job.do(JOBS)).outcome is Outcome.REFUSED
    assert not job.processes.spawned


async def test_it_does_not_wait_for_ever(job: JobWorld) -> None:
    await job.passes(CLAIM.wait, step=10.0)
    assert job.ends() is None
    await job.passes(1)
    assert job.ends() == End(1, "no coordinator asked for i1 within 60 s")


# ---- options -------------------------------------------------------------------------------------


def options(*words: str) -> argparse.Namespace:
    return parser().parse_args(["run", "-c", "agent.yaml", *words])


SLURM = {"SLURM_JOB_ID": "42", "SLURMD_NODENAME": "n3", "SLURM_PROCID": "1"}


def test_slurm_says_what_the_command_line_does_not() -> None:
    words = options("--instance", "i1", "--within", "east")
    claim = claim_of(words, {**SLURM, "CUDA_VISIBLE_DEVICES": "0, 1"})
    assert claim == Claim("i1", 1, "east/n3", devices=("0", "1"))
    assert agent_id_of(claim, words, SLURM) == "east.job-42-1"
    assert agent_id_of(claim, words, {}) == "east.i1-1"
    assert agent_id_of(claim, options("--agent-id", "me"), SLURM) == "me"
    assert incarnation_of({"SLURM_RESTART_COUNT": "2"}) == 3
    assert incarnation_of({}) == 1


def test_the_environment_says_all_of_it() -> None:
    environ = {
        "HETEROSCALE_JOB_INSTANCE": "i1",
        "HETEROSCALE_JOB_RANK": "2",
        "HETEROSCALE_JOB_WITHIN": "east/n7",
        "HETEROSCALE_JOB_GPUS": "GPU-b",
        "HETEROSCALE_JOB_LEAVE_WITHIN": "5m",
        "HETEROSCALE_JOB_WAIT": "30s",
    }
    assert claim_of(options(), environ) == Claim("i1", 2, "east/n7", ("GPU-b",), 300.0, 30.0)
    assert claim_of(options(), {}) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rank", "1"], "--rank needs --instance"),
        (["--instance", "../x", "--within", "east"], "--instance '../x'"),
        (["--instance", "i1"], "--within ''"),
        (["--instance", "i1", "--within", "East/n"], "--within 'East/n'"),
        (["--instance", "i1", "--within", "east", "--rank", "-1"], "--rank '-1'"),
        (["--instance", "i1", "--within", "east", "--wait", "0s"], "--wait: longer than 0s"),
        (["--instance", "i1", "--within", "east", "--leave-within", "x"], "--leave-within: 'x'"),
    ],
)
def test_a_mistake_names_its_option(words: list[str], said: str) -> None:
    with pytest.raises(JobError) as refused:
        claim_of(options(*words), {})
    assert said in str(refused.value)


def test_gpus_are_found_by_uuid_too() -> None:
    gpus = tuple(Gpu(i, f"GPU-{letter}", "H20", "H20", 1) for i, letter in enumerate("abc"))
    assert replace(CLAIM, devices=("GPU-c", "GPU-a")).taken(gpus, 2) == (2, 0)
    assert CLAIM.taken(gpus, 2) == (0, 1)
    assert CLAIM.taken((), 2) == (0, 1)
    assert replace(CLAIM, devices=("1",)).taken(gpus, 2) == (1,)


def test_what_is_the_hosts_is_left_to_it() -> None:
    spec = AgentSpec.model_validate(
        {
            "coordinator": "c:1",
            "labels": {"rack": "7"},
            "taints": ["a=b:NoSchedule"],
            "advertise_host": "10.0.0.1",
        }
    )
    found = narrowed(spec, CLAIM, "")
    assert found.labels == {"rack": "7", WITHIN: "east/n0"}
    assert (found.taints, found.advertise_host) == ((), "10.0.0.1")
    assert narrowed(spec, CLAIM, "10.0.0.2").advertise_host == "10.0.0.2"
