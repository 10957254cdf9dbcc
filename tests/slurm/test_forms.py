"""Slurm's words, old and new, read into one form; and jobs in the words of slurmrestd."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from heteroscale_scheduler_adapters.port import (
    Launch,
    Phase,
    RefusedError,
    SettingsError,
    Spot,
    Step,
    UnavailableError,
)
from heteroscale_scheduler_adapters.slurm import create, dialect, gres, hostlist, parse, phases, tag
from heteroscale_scheduler_adapters.slurm.adapter import SlurmAdapter
from heteroscale_scheduler_adapters.slurm.records import JobRecord, NodeRecord, Order
from heteroscale_scheduler_adapters.slurm.settings import options_of
from heteroscale_scheduler_adapters.slurm.steps import Steps
from heteroscale_scheduler_adapters.slurm.tag import Tag
from heteroscale_scheduler_adapters.slurm.topology import places
from heteroscale_scheduler_adapters.slurm.way import Way
from heteroscale_scheduler_adapters.slurm.world import Look, world

TAG = Tag("i-1", "chat", "decode", "chat-decode", "r-1")
OLD: dict[str, Any] = {
    "job_id": 7,
    "user_name": "alice",
    "job_state": "RUNNING",
    "state_reason": "None",
    "comment": tag.write(TAG),
    "nodes": "n[1-2]",
    "gres_detail": ["gpu:H20:2(IDX:0-1)", "gpu:H20:2(IDX:4,6)"],
    "time_limit": 60,
    "start_time": 100,
    "end_time": 3700,
    "exit_code": 0,
}
NEW: dict[str, Any] = {
    **OLD,
    "job_state": ["RUNNING"],
    "time_limit": {"set": True, "infinite": False, "number": 60},
    "start_time": {"set": True, "infinite": False, "number": 100},
    "end_time": {"set": True, "infinite": False, "number": 3700},
    "exit_code": {"status": ["SUCCESS"], "return_code": {"set": True, "number": 0}},
}


def _jobs(*jobs: dict[str, Any]) -> str:
    return json.dumps({"errors": [], "jobs": jobs})


def test_the_old_and_the_new_form_are_one_record() -> None:
    (old,), (new,) = parse.jobs(_jobs(OLD)), parse.jobs(_jobs(NEW))
    assert old == new
    assert (old.nodes, old.limited, old.ended) == (("n1", "n2"), True, 3700.0)
    assert [gres.taken(one) for one in old.gres] == [(0, 1), (4, 6)]
    assert tag.ours(old, "alice", "hpc") == TAG
    assert tag.ours(old, "bob", "hpc") is None, "a mark alone makes no job ours"


@pytest.mark.parametrize("text", ["", "[]", '{"jobs": 3}', '{"jobs": [3]}'])
def test_what_is_no_answer_is_no_empty_world(text: str) -> None:
    with pytest.raises(UnavailableError):
        parse.jobs(text)


def test_an_answer_with_errors_is_not_the_whole() -> None:
    with pytest.raises(UnavailableError, match="no luck"):
        parse.jobs(json.dumps({"errors": [{"error": "no luck"}], "jobs": []}))


@pytest.mark.parametrize(
    ("state", "stop", "wanted"),
    [
        (["RUNNING"], 0.0, Phase.STARTING),
        (["RUNNING"], 9.0, Phase.STOPPING),
        (["CANCELLED", "COMPLETING"], 0.0, Phase.STOPPING),
        (["CANCELLED"], 0.0, Phase.FAILED),
        (["CANCELLED"], 9.0, Phase.ENDED),
        (["COMPLETED"], 0.0, Phase.ENDED),
        (["TIMEOUT"], 0.0, Phase.FAILED),
        (["NODE_FAIL"], 0.0, Phase.FAILED),
        (["PREEMPTED"], 0.0, Phase.FAILED),
        (["PENDING"], 0.0, Phase.QUEUED),
        (["REQUEUED"], 0.0, Phase.QUEUED),
        (["SUSPENDED"], 0.0, Phase.STARTING),
    ],
)
def test_states_are_phases(state: list[str], stop: float, wanted: Phase) -> None:
    (job,) = parse.jobs(_jobs({**NEW, "job_state": state}))
    assert phases.phase(job, TAG.stopped(stop), agent=True)[0] is wanted


@pytest.mark.parametrize(
    ("reason", "waited", "wanted", "said"),
    [
        (
            "QOSMaxGRESPerUser",
            60,
            Phase.FAILED,
            "cannot start: QOSMaxGRESPerUser, a limit of its QOS",
        ),
        ("AssocGrpGRES", 60, Phase.FAILED, "cannot start: AssocGrpGRES, a limit of its account"),
        ("AssocGrpGRES", 10, Phase.QUEUED, "waits: AssocGrpGRES"),
        ("QOSMaxGRESPerJob", 0, Phase.FAILED, "can never start: QOSMaxGRESPerJob"),
        ("PartitionTimeLimit", 0, Phase.FAILED, "can never start: PartitionTimeLimit"),
        ("Resources", 6000, Phase.QUEUED, "waits: Resources"),
    ],
)
def test_limits_are_no_endless_wait(reason: str, waited: int, wanted: Phase, said: str) -> None:
    pending = {**NEW, "job_state": ["PENDING"], "state_reason": reason, "submit_time": 1000}
    (job,) = parse.jobs(_jobs(pending))
    phase, words = phases.phase(job, TAG, agent=True, now=1000.0 + waited)
    assert (phase, said in words) == (wanted, True)
    assert phases.hopeless(job, 1000.0 + waited) is (wanted is Phase.FAILED)


def test_the_end_is_when_the_warning_comes() -> None:
    (job,) = parse.jobs(_jobs(NEW))
    ours = JobRecord(7, user="alice", states=("RUNNING",), comments=job.comments, nodes=("n1",))
    template = {"name": "chat-decode", "role": "decode", "gpus": 1, "script": "x"}

    def ends(limited: bool, **how: str) -> float | None:
        options = options_of({"templates": [template], "job": how})
        one = replace(ours, ended=3700.0, limited=limited)
        return world(Look([], [one], user="alice"), options).running["i-1"].ends_at

    assert ends(limited=True, timeLimit="60m", warning="5m") == 3400.0
    assert ends(limited=True) == 3700.0, "the partition's own limit: nobody warns"
    assert ends(limited=False) is None


def test_jobs_of_others_with_equal_numbers_in_two_clusters_are_two_instances() -> None:
    options = options_of({"templates": [{"name": "d", "role": "decode", "gpus": 1}]})
    theirs = JobRecord(
        7,
        user="bob",
        states=("RUNNING",),
        comments=("heteroscale:service=chat,role=decode,port=8000",),
        nodes=("n1",),
    )
    found = [world(Look([], [theirs], cluster=name), options).running for name in ("east", "west")]
    assert [list(one) for one in found] == [["east.job-7"], ["west.job-7"]]


def test_of_two_adapters_on_one_slurm_each_has_its_own_jobs() -> None:
    """Two partitions are two sub-clusters, and both look at all jobs of their user."""
    options = options_of({"templates": [{"name": "chat-decode", "role": "decode", "gpus": 1}]})
    job = JobRecord(
        7,
        user="alice",
        states=("RUNNING",),
        comments=(tag.write(replace(TAG, cluster="west")),),
        nodes=("n1",),
        gres=("gpu:H20:2(IDX:0-1)",),
    )
    node = NodeRecord("n1", gres="gpu:H20:8")

    def seen(name: str) -> tuple[list[str], str]:
        found = world(Look([node], [job], cluster=name, user="alice"), options)
        (held,) = found.nodes["n1"].holdings
        return list(found.running), held.instance_id

    assert seen("west") == (["i-1"], "i-1")
    assert seen("east") == ([], ""), "it holds GPUs there, as anybody's does"


async def test_a_job_is_refused_whose_comment_has_no_room_for_its_stop() -> None:
    """Else nobody could ever note that it was told to end, and it would not be."""

    class Full:
        """A cluster of one node; nothing may be submitted to it."""

        warns_script, user = True, "alice"

        async def nodes(self) -> list[NodeRecord]:
            return [NodeRecord("n1", gres="gpu:H20:8")]

        async def jobs(self) -> list[JobRecord]:
            return []

    template = {"name": "chat-decode", "role": "decode", "gpus": 1}
    steps = Steps("east", cast("Way", Full()), options_of({"templates": [template]}), lambda: 0.0)
    full = replace(TAG, of=1, gpus=1, decision="x", cluster="east")
    room = tag.LONGEST - len(tag.write(full))
    asked = Launch("i-1", "chat", "decode", "chat-decode", (Spot("n1"),), gpus=1)
    with pytest.raises(RefusedError, match=r"i-1: a comment of 10\d\d bytes"):
        await steps.launch(Step("r-1", "x" * (1 + room), (asked,)))


async def test_who_is_stopped_again_gets_no_second_signal() -> None:
    """The second one says to a job's agent that it is to wait for no request any more."""

    class One:
        """A cluster of one job; the first signal is lost."""

        user = "alice"

        def __init__(self) -> None:
            self.tag, self.asked = TAG, 0

        async def open(self) -> None:
            """It answers."""

        async def jobs(self) -> list[JobRecord]:
            said = (tag.write(self.tag),)
            return [JobRecord(7, user="alice", states=("RUNNING",), comments=said, nodes=("n1",))]

        async def comment(self, _: int, text: str) -> None:
            found = tag.read([text])
            assert found is not None
            self.tag = found

        async def signal(self, _: int, *, batch: bool) -> None:
            assert batch
            self.asked += 1
            if self.asked == 1:
                raise UnavailableError("no answer in time")

    way = One()
    options = options_of({"templates": [{"name": "chat-decode", "role": "decode", "gpus": 1}]})
    adapter = SlurmAdapter("hpc", options, (cast("Way", way),), now=lambda: 100.0)
    await adapter.open()
    with pytest.raises(UnavailableError):
        await adapter.stop("i-1", 30.0)
    for _ in range(3):
        await adapter.stop("i-1", 30.0)
    assert (way.asked, way.tag.stop) == (2, 130.0)


def test_switches_and_blocks_are_domains() -> None:
    tree = "SwitchName=leaf1 Nodes=n[1-2]\nSwitchName=top Switches=leaf1 # all\n"
    assert places(tree)["n2"].names == {"s1": "leaf1", "s2": "top"}
    assert places("BlockName=b1 BlockIndex=0 Nodes=n[1-2]")["n1"].names == {"s0": "b1"}


def test_hostlists_are_written_out() -> None:
    assert hostlist.expand("gpu[08-10],x") == ("gpu08", "gpu09", "gpu10", "x")
    assert hostlist.expand("(null)") == ()


def test_a_job_in_both_words_of_slurmrestd() -> None:
    order = Order("hs", "c", "#!/bin/sh\n", ("n1",), 1, "gpu:H20:2", limit=60, warning=120)
    old, new = dialect.old_job(order)["job"], dialect.new_job(order)["job"]
    assert (old["nodelist"], old["gres"], old["hold"]) == ("n1", "gpu:H20:2", True)
    assert "signal" not in old, "v0.0.38 would warn steps, and the script is none"
    assert (new["required_nodes"], new["tres_per_node"]) == (["n1"], "gres/gpu:H20:2")
    assert new["kill_warning_flags"] == ["BATCH_JOB"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "templates"),
        ({"templates": [{"name": "d", "role": "decode", "gpus": 1}], "wey": 1}, "wey"),
        ({"templates": [{"name": "d", "role": "decode", "gpus": 1}], "way": "rest"}, "rest.url"),
        ({"templates": [{"name": "d", "role": "decode", "gpus": 1, "job": {"qs": ""}}]}, "qs"),
        (
            {
                "templates": [{"name": "d", "role": "decode", "gpus": 1}],
                "job": {"timeLimit": "90s", "warning": "2m"},
            },
            "job: warning: TERM would come 120s before a timeLimit of 90s",
        ),
    ],
)
def test_wrong_options_name_the_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError, match=field):
        create("hpc", options)
