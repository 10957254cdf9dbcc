"""Engines that the journal does not tell of: adopted from what they carry, or held; never forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import GateState, InstanceState, Outcome, Role, WithdrawReason
from heteroscale_agent.hands.process import Found, Ident, Order
from heteroscale_agent.instances import dump_record
from heteroscale_agent.journal import Journal, peek
from heteroscale_agent.ledger import instance_entry
from heteroscale_agent.model import Terminate, Withdraw
from heteroscale_agent.strays import RECORD, record_of
from tests.agent.body_twins import World, drain, launch


async def restart_without_journal(world: World) -> None:
    await world.die()
    (world.folder / "journal.jsonl").unlink()
    world.eyes.set_targets([])
    await world.restart()


def carries(world: World, **environ: str | None) -> None:
    """Let the only engine have other words in its environment; None removes one."""
    ident = world.processes.only
    order = world.processes.running[ident]
    env = {**order.env, **environ}
    kept = {name: text for name, text in env.items() if text is not None}
    world.processes.running[ident] = replace(order, env=kept)


async def test_a_lost_journal_frees_no_gpu_and_the_engine_serves_on(world: World) -> None:
    await world.serving()
    before = world.status()
    await world.passes(100, step=5)
    await restart_without_journal(world)
    status = world.status()
    assert (status.pid, status.endpoint, status.gate) == (before.pid, before.endpoint, before.gate)
    assert (status.service, status.role, status.template) == ("chat", Role.DECODE, "decode")
    assert status.adopted
    assert "adopted from its environment" in status.message
    # A coordinator takes no older word for a newer one.
    assert status.generation > before.generation
    assert (await world.do(launch(), "i2")).message == "GPU 0 is held by i1"
    for _ in range(8):
        await world.passes(0.25)
        assert world.gate.places == {"r1": {"i1"}}
    assert (world.status().state, world.status().gate_state) == (
        InstanceState.IN_SERVICE,
        GateState.OPEN,
    )
    # How long it took to start is not known any more.
    assert world.status().startup_time is None
    assert [target.url for target in world.eyes.targets] == [before.endpoint + "/metrics"]
    await world.do(drain())
    await world.passes(10)
    assert world.status().state is InstanceState.TERMINATED
    assert world.gate.places == {"r1": set()}
    assert (await world.do(launch(), "i3")).outcome is Outcome.DONE


async def test_a_record_that_cannot_be_read_is_read_from_the_engine(
    world: World, tmp_path: Path
) -> None:
    await world.serving()
    await world.die()
    journal = Journal(tmp_path, wall=world.wall)
    journal.append([instance_entry("i1", {"nonsense": True})])
    journal.close()
    await world.restart()
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE
    generation = world.status().generation
    # From now on the journal knows it again.
    await world.restart()
    assert (world.status().state, world.status().generation) == (
        InstanceState.IN_SERVICE,
        generation,
    )


async def test_an_engine_that_went_bad_unseen_fails_and_leaves_the_routers(world: World) -> None:
    await world.serving()
    world.probe.answer = False
    await restart_without_journal(world)
    await world.passes(59)
    assert world.status().state is InstanceState.LAUNCHING
    assert world.gate.places == {"r1": {"i1"}}
    await world.passes(10)
    assert world.status().state is InstanceState.FAILED
    await world.passes(3)
    assert world.gate.places == {"r1": set()}


async def test_a_hold_is_not_held_again(world: World) -> None:
    await world.do(launch(ratio_hold=30.0))
    await world.passes(40)
    assert world.status().state is InstanceState.IN_SERVICE
    await restart_without_journal(world)
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE
    assert "withdrawn" not in world.states()[-2:]


async def test_a_rank_above_zero_is_adopted_too(world: World) -> None:
    await world.do(launch(rank=1, rank_count=2, leader_host="10.0.0.1"))
    await world.passes(1)
    await restart_without_journal(world)
    await world.passes(1)
    status = world.status()
    assert (status.rank, status.rank_count, status.endpoint) == (1, 2, "")
    assert (status.state, status.gate_state) == (InstanceState.IN_SERVICE, GateState.OPEN)
    assert not world.eyes.targets


@pytest.mark.parametrize("text", [None, "", "{", "[" * 5000, "[]", '{"instance_id": "i1"}'])
async def test_an_engine_that_does_not_say_enough_holds_its_gpus_until_it_ends(
    world: World, text: str | None
) -> None:
    await world.serving()
    carries(world, **{RECORD: text})
    await restart_without_journal(world)
    status = world.status()
    assert (status.state, status.origin) == (InstanceState.UNKNOWN, "stray")
    assert (status.service, status.role, status.gpu_indices) == ("chat", Role.DECODE, (0,))
    await world.passes(100, step=5)
    assert world.gate.places == {"r1": {"i1"}}
    assert not world.processes.terminated
    assert not world.eyes.targets
    for action in (Withdraw(WithdrawReason.OPERATOR), drain(), Terminate(1.0)):
        result = await world.do(action)
        assert result.outcome is Outcome.REFUSED
        assert "carries no launch that can be read" in result.message
    refused = await world.do(launch(), "i2")
    assert refused.message.startswith("GPU 0 is held by i1: pid 101 carries no launch")
    assert (await world.do(launch(gpu_indices=(1,)), "i3")).outcome is Outcome.DONE
    world.processes.end(Ident(101, 5001), 0)
    await world.passes(1)
    assert world.status().state is InstanceState.FAILED
    assert (await world.do(launch(), "i4")).outcome is Outcome.DONE


@pytest.mark.parametrize("gpus", [None, "", "GPU-8f2a", "0,", "0,-1", "٣"])
async def test_where_nobody_knows_which_gpus_are_held_nothing_is_launched(
    world: World, gpus: str | None
) -> None:
    await world.serving()
    carries(world, **{RECORD: None, "HETEROSCALE_GPUS": None, "CUDA_VISIBLE_DEVICES": gpus})
    await restart_without_journal(world)
    refused = await world.do(launch(gpu_indices=(3,)), "i2")
    assert refused.outcome is Outcome.REFUSED
    assert refused.message.startswith("any GPU here may be held by i1: pid 101")
    world.processes.end(world.processes.only, 0)
    await world.passes(1)
    assert (await world.do(launch(gpu_indices=(3,)), "i2")).outcome is Outcome.DONE


async def test_what_outlived_an_ended_instance_is_stopped(world: World) -> None:
    await world.serving()
    order = world.processes.running[world.processes.only]
    await world.do(Terminate(1.0))
    await world.passes(5)
    left = Ident(900, 9000)
    world.processes.running[left] = order
    await world.restart()
    assert world.processes.running == {}
    assert world.status().state is InstanceState.TERMINATED


def test_the_launch_of_another_is_not_believed() -> None:
    order = Order("i1", ["engine"], {})
    whole = record_of(Found("i1", Ident(5, 6), {}), 10.0, "boot")
    text = json.dumps(dump_record(whole))
    found = Found("i2", Ident(7, 8), {**order.env, RECORD: text})
    assert record_of(found, 10.0, "boot").state is InstanceState.UNKNOWN


@pytest.mark.parametrize("environ", [{"HETEROSCALE_SERVICE": "\udcff", "HETEROSCALE_ROLE": "king"}])
def test_words_that_are_none_are_left_out(environ: dict[str, str]) -> None:
    record = record_of(Found("i1", Ident(5, 6), environ), 10.0, "boot")
    assert (record.launch.service, record.launch.role) == ("", Role.AGGREGATED)


async def test_a_record_of_a_later_release_is_treated_as_a_lost_one(world: World) -> None:
    """A downgrade: what only the release after can read is not guessed at, and frees no GPU."""
    await world.serving()
    before = world.status()
    await world.die()
    told = peek(world.folder)[0].records["i1"]
    journal = Journal(world.folder, wall=lambda: 0.0)
    journal.append([instance_entry("i1", {**told, "state": "hibernating", "mood": "good"})])
    journal.close()
    world.eyes.set_targets([])
    await world.restart()
    status = world.status()
    assert (status.pid, status.service, status.adopted) == (before.pid, "chat", True)
    assert status.generation > before.generation
    assert (await world.do(launch(), "i2")).message == "GPU 0 is held by i1"
