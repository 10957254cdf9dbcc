"""Ends, preemption, marks and types on a real Slurm: by its commands and, with a token, slurmrestd."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from heteroscale_scheduler_adapters.port import Launch, Phase, RefusedError, Spot, UnavailableError
from tests.slurm.files import Machine
from tests.slurm.host import WHY_NO_REST, WHY_NOT
from tests.slurm.rig import ENGINE, Told, launch, step, told

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
P = Phase
ONE = [Machine("n1", "gpu:H20:8")]
LIMITED = {"job": {"timeLimit": "10m", "warning": "3m"}}


@pytest.mark.skipif(bool(WHY_NO_REST), reason=WHY_NO_REST)
async def test_an_end_is_told_the_same_by_both_ways_in_and_nobody_without_a_good_token() -> None:
    async with told(ONE, rest="jwt") as slurm:
        rest = {"url": f"unix:{slurm.cluster.socket}", "user": "root"}
        token = str(slurm.cluster.token_file)
        commands = await slurm.adapter(**LIMITED)
        through = await slurm.adapter(**LIMITED, way="rest", rest={**rest, "tokenFile": token})
        await through.launch(step("r1", launch("i-1", "n1")))
        one = await slurm.phase(commands, "i-1", P.READY)
        assert (await slurm.phase(through, "i-1", P.READY)) == one
        shown = await slurm.cluster.run("scontrol", "show", "job", await slurm.job("i-1"))
        (end,) = re.findall(r"EndTime=(\S+)", shown)
        assert one.ends_at == datetime.fromisoformat(end).timestamp() - 180
        unlimited = await slurm.adapter()
        await unlimited.launch(step("r2", launch("i-2", "n1")))
        assert (await slurm.phase(unlimited, "i-2", P.READY)).ends_at is None

        bad = Path(slurm.cluster.folder) / "bad"
        bad.write_text("SLURM_JWT=eyJhbGciOiJIUzI1NiJ9.e30.none")
        with pytest.raises(UnavailableError, match="is the token good"):
            await slurm.adapter(way="rest", rest={**rest, "tokenFile": str(bad)})


PREEMPTING = [
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1",
    "PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=9",
]


async def _preempt(slurm: Told) -> str:
    words = ["-p", "high", "-w", "n1", "--gres=gpu:8", "-o", "/dev/null", "--wrap", "sleep 1000"]
    return (await slurm.cluster.run("sbatch", "--parsable", *words)).strip()


async def test_what_is_preempted_has_failed_or_if_it_may_be_requeued_waits() -> None:
    async with told(ONE, lines=PREEMPTING) as slurm:
        script = {"script": ENGINE, "gpus": 4}
        adapter = await slurm.adapter(
            templates=[
                {"name": "prefill", "role": "prefill", **script},
                {"name": "decode", "role": "decode", **script, "job": {"requeue": True}},
            ]
        )
        await adapter.launch(
            step("r1", launch("i-1", "n1", role="prefill"), launch("i-2", "n1", role="decode"))
        )
        await slurm.phase(adapter, "i-1", P.READY)
        await slurm.phase(adapter, "i-2", P.READY)
        other = await _preempt(slurm)
        lost = await slurm.phase(adapter, "i-1", P.FAILED)
        assert "PREEMPTED: it was preempted" in lost.message
        waits = await slurm.phase(adapter, "i-2", P.QUEUED)
        assert waits.ranks == (Spot(""),), "it stands nowhere now"
        assert "requeued 1 times" in waits.message
        assert [h.instance_id for h in (await adapter.world()).nodes["n1"].holdings] == [""]
        # It starts anew after the life of its credential, two minutes, and hastened it fails; told to end
        # before, it does not start.
        await adapter.stop("i-2", 30.0)
        await slurm.phase(adapter, "i-2", P.ENDED)
        await slurm.cluster.run("scancel", other)


async def test_a_mark_drains_a_node_and_only_a_mark_of_ours_is_taken_back() -> None:
    async with told([Machine("n1"), Machine("n2")]) as slurm:
        adapter = await slurm.adapter(nodeHealth=True)
        assert adapter.capabilities.marks
        for _ in range(2):
            await adapter.mark("n1", "GPU 3: Xid 79")
        world = await slurm.until(adapter, lambda w: bool(w.nodes["n1"].closed))
        assert world.nodes["n1"].marked == "GPU 3: Xid 79"
        assert world.nodes["n1"].closed == "drained: heteroscale: GPU 3: Xid 79"
        await adapter.mark("n1", "")
        await slurm.until(adapter, lambda w: not w.nodes["n1"].closed)

        drain = ("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=a fan")
        await slurm.cluster.run(*drain)
        for reason in ("GPU 0: lost", ""):
            await adapter.mark("n2", reason)
        world = await slurm.until(adapter, lambda w: bool(w.nodes["n2"].closed))
        assert (world.nodes["n2"].closed, world.nodes["n2"].marked) == ("drained: a fan", "")
        with pytest.raises(RefusedError, match="no node n9"):
            await adapter.mark("n9", "x")


async def test_on_a_node_of_two_types_the_type_that_placement_chose_is_asked_for() -> None:
    async with told([Machine("n1", "gpu:H20:4,gpu:L20:4")]) as slurm:
        adapter = await slurm.adapter()
        spots = {"i-1": (4, 5), "i-2": (0, 1)}
        launches = [
            Launch(name, "chat", "decode", "decode", (Spot("n1", indices),), 2)
            for name, indices in spots.items()
        ]
        await adapter.launch(step("r1", *launches))
        for name in spots:
            await slurm.phase(adapter, name, P.READY)
        for name, kind in (("i-1", "L20"), ("i-2", "H20")):
            shown = await slurm.cluster.run("scontrol", "show", "job", "-d", await slurm.job(name))
            assert f"GRES=gpu:{kind}:2" in shown
