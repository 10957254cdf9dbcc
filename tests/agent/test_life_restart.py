"""The agent dies and comes back: what it finds, what it goes on with, what it forgets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

from heteroscale.words import GateState, InstanceState, Outcome
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.process import Ident, Order, SpawnError
from heteroscale_agent.journal import peek
from heteroscale_agent.model import Command
from tests.agent.body_twins import IDLE, SOFT, FakeGate, World, drain, launch


async def test_adoption_goes_on_where_it_was(world: World) -> None:
    await world.serving()
    before = world.status()
    await world.restart()
    status = world.status()
    assert status.adopted
    assert (status.pid, status.generation, status.endpoint) == (
        before.pid,
        before.generation,
        before.endpoint,
    )
    assert status.state is InstanceState.IN_SERVICE
    # Gates are read again before they are believed.
    assert status.gate_state is GateState.OPENING
    await world.passes(1)
    assert world.status().gate_state is GateState.OPEN
    assert world.eyes.targets
    assert world.processes.spawned == 1


async def test_a_drain_goes_on_after_a_restart_with_its_lease_anew(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=1.0)
    command = world.command(drain(lease=20.0))
    await world.body.execute(command)
    await world.passes(15)
    await world.restart()
    await world.passes(15)
    assert world.status().state is InstanceState.DRAINING
    world.eyes.scrape = IDLE
    await world.passes(4)
    assert world.status().state is InstanceState.TERMINATED
    (result,) = world.results()
    assert (result.command_id, result.outcome) == (command.command_id, Outcome.DONE)


async def test_leases_end_also_after_a_restart(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    await world.restart()
    await world.passes(19)
    assert world.status().state is InstanceState.WITHDRAWN
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE


async def test_an_engine_that_ended_meanwhile_is_told_with_what_it_owed(world: World) -> None:
    await world.serving()
    await world.do(drain(lease=1000.0))
    await world.passes(1)
    world.processes.running.clear()
    world.processes.ended.clear()
    await world.restart()
    status = world.status()
    assert (status.state, status.exit_code) == (InstanceState.FAILED, None)
    owed = [r for r in world.body.unacknowledged() if r.command_id == "c2"]
    assert [result.outcome for result in owed] == [Outcome.ACCEPTED, Outcome.FAILED]
    await world.passes(1)
    assert world.gate.places == {"r1": set()}


async def test_a_reboot_ends_everything_and_kills_nobody_by_mistake(world: World) -> None:
    await world.serving()
    ident = world.processes.only
    # The same pid and start time after a reboot is another process.
    world.processes.running[ident] = Order("", ["sh"], {})
    world.boot_id = "boot-2"
    world.clock.now = 5.0
    await world.restart()
    assert world.status().state is InstanceState.FAILED
    assert ident in world.processes.running
    assert not world.processes.killed


async def test_a_launch_cut_short_is_adopted_by_its_tag(world: World) -> None:
    command = await cut_short(world, spawned=True)
    await world.restart()
    status = world.status()
    assert (status.state, status.adopted) == (InstanceState.LAUNCHING, True)
    assert status.pid == world.processes.only.pid
    assert (await world.body.execute(command)).outcome is Outcome.DONE
    assert world.processes.spawned == 1
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE


async def test_a_launch_cut_short_without_a_trace_is_unknown(world: World) -> None:
    command = await cut_short(world, spawned=False)
    await world.restart()
    assert world.status().state is InstanceState.FAILED
    answer = await world.body.execute(command)
    assert answer.outcome is Outcome.UNKNOWN
    assert [r.outcome for r in world.body.unacknowledged()] == [Outcome.UNKNOWN]
    assert world.processes.spawned == 0


async def cut_short(world: World, *, spawned: bool) -> Command:
    """Let the agent die between the intent of a launch and its outcome."""
    command = world.command(launch())
    real = world.processes.spawn

    def dies(order: Order) -> Ident:
        if spawned:
            real(order)
        # From here on nothing reaches the disk, as when the process is gone.
        world.write_fails = True
        raise SpawnError("cut short")

    world.processes.spawn = dies  # type: ignore[method-assign]
    await world.body.execute(command)
    await world.die()
    world.processes.spawn = real  # type: ignore[method-assign]
    return command


async def test_ended_instances_are_forgotten_after_an_hour(world: World) -> None:
    await world.serving()
    world.processes.end(world.processes.only, 1)
    await world.passes(3000, step=60)
    assert world.status().state is InstanceState.FAILED
    await world.passes(900, step=60)
    assert world.body.statuses() == []
    await world.restart()
    assert world.body.statuses() == []


async def test_logs_of_the_newest_ended_are_kept_and_older_ones_removed(tmp_path: Path) -> None:
    world = World(tmp_path, keep_logs=2)
    await world.body.start()
    for number in range(5):
        await world.serving(f"i{number}")
        world.processes.end(world.processes.only, 1)
        await world.passes(5)
    # Those still told of keep theirs.
    assert world.processes.dropped == []
    await world.serving("alive")
    await world.passes(4000, step=60)
    assert world.processes.dropped == ["i0", "i1", "i2"]
    await world.restart()
    world.processes.end(world.processes.only, 1)
    await world.passes(5)
    assert world.processes.dropped == ["i0", "i1", "i2", "i3"]
    await world.body.close()


async def test_trouble_with_one_instance_is_its_own(world: World) -> None:
    await world.serving()
    await world.do(launch(gpu_indices=(1,)), "i2")

    class Broken(FakeGate):
        async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
            if member.instance_id == "i1":
                raise RuntimeError("boom")
            return await super().reconcile(member, wanted_in=wanted_in)

    world.gates["sglang-router"] = Broken()
    for _ in range(12):
        world.clock.now += 0.5
        with contextlib.suppress(RuntimeError):
            await world.body.tick()
        # A tick that fails does not wait for what it began for the others.
        if begun := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(begun)
    assert world.status("i2").state is InstanceState.IN_SERVICE


async def test_what_was_heard_is_on_disk_with_the_next_tick(world: World) -> None:
    await world.serving()
    assert peek(world.folder)[0].pending
    world.body.acknowledge(["c1"])
    await world.body.tick()
    assert not peek(world.folder)[0].pending
    assert world.body.hear_epoch(9)
    await world.body.tick()
    assert peek(world.folder)[0].epoch == 9
