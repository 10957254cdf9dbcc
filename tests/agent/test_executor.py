"""Commands: at most once, in order, only what is allowed; and everything else said clearly."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GateState, InstanceState, Outcome, Role, WithdrawReason
from heteroscale_agent.hands.process import Ident, Order
from heteroscale_agent.model import (
    Action,
    Gate,
    Gpu,
    Launch,
    Reinstate,
    SwitchRole,
    Terminate,
    Withdraw,
)
from heteroscale_agent.ports import GpuHolder
from tests.agent.body_twins import SOFT, World, drain, launch


async def test_a_launch_is_done_once_the_process_runs(world: World) -> None:
    result = await world.do(launch())
    assert result.outcome is Outcome.DONE
    assert result.status is not None
    assert (result.status.state, result.status.generation) == (InstanceState.LAUNCHING, 1)
    order = world.processes.running[world.processes.only]
    port = str(result.status.endpoint.rsplit(":", 1)[1])
    assert list(order.command) == ["engine", "--port", port, "--model", "tiny"]
    assert order.env["CUDA_VISIBLE_DEVICES"] == "0"


async def test_where_cuda_counts_otherwise_an_engine_is_told_uuids(world: World) -> None:
    world.eyes.gpus = (
        Gpu(0, "MIG-1", "H100", "H100-1g.10gb", 1, partition="1g.10gb", visible="MIG-1"),
        Gpu(2, "GPU-2", "H100", "H100", 1, visible="GPU-2"),
    )
    assert (await world.do(launch(gpu_indices=(0,)))).outcome is Outcome.DONE
    order = world.processes.running[world.processes.only]
    assert order.env["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert order.env["HETEROSCALE_GPUS"] == "0"
    refused = await world.do(launch(gpu_indices=(1,)), "i2")
    assert refused.message == "no GPU 1 on this host: it has 2"
    assert (await world.do(launch(gpu_indices=(2,)), "i2")).outcome is Outcome.DONE


async def test_rocm_is_told_the_same_in_its_own_variable(world: World) -> None:
    world.eyes.gpus = (Gpu(0, "GPU-a", "MI300X", "MI300X", 1, vendor="amd"),)
    await world.do(launch())
    order = world.processes.running[world.processes.only]
    assert order.env["HIP_VISIBLE_DEVICES"] == order.env["CUDA_VISIBLE_DEVICES"] == "0"


async def test_nothing_is_launched_on_a_gpu_that_is_lost(world: World) -> None:
    world.eyes.gpus = (Gpu(0, "GPU-a", "H20", "H20", 1, present=False),)
    refused = await world.do(launch())
    assert refused.outcome is Outcome.REFUSED
    assert refused.message == "GPU 0 (GPU-a) does not answer its driver"


async def test_the_eyes_are_told_who_holds_which_gpu(world: World) -> None:
    assert not world.eyes.holders
    await world.do(launch(gpu_indices=(3,)))
    pid = world.processes.only.pid
    assert world.eyes.holders == (GpuHolder("i1", (3,), pid),)
    world.processes.end(world.processes.only, 0)
    await world.passes(1)
    assert not world.eyes.holders


async def test_a_repeated_id_gets_its_first_answer_and_starts_nothing(world: World) -> None:
    command = world.command(launch())
    first, second = await asyncio.gather(world.body.execute(command), world.body.execute(command))
    third = await world.body.execute(command)
    assert first == second
    assert (third.outcome, third.message) == (first.outcome, first.message)
    await world.restart()
    fourth = await world.body.execute(replace(command, epoch=0, expires_at=0.0))
    assert (fourth.outcome, fourth.message) == (first.outcome, first.message)
    assert world.processes.spawned == 1


async def test_what_was_refused_once_is_never_done_later(world: World) -> None:
    await world.do(launch())
    early = world.command(Terminate(1.0), expected_generation=2)
    assert (await world.body.execute(early)).outcome is Outcome.REFUSED
    await world.passes(0.5)
    assert world.status().generation == 2
    assert (await world.body.execute(early)).outcome is Outcome.REFUSED
    await world.restart()
    assert (await world.body.execute(early)).outcome is Outcome.REFUSED


async def test_an_epoch_that_was_heard_counts_at_once_and_costs_the_loop_no_disk(
    world: World,
) -> None:
    before = world.body._registry.journal.epoch
    assert world.body.hear_epoch(5)
    assert world.body._registry.journal.epoch == before, "written by the thread of the disk"
    refused = await world.do(launch(), epoch=4)
    assert "epoch 5" in refused.message
    await world.passes(1)
    assert world.body._registry.journal.epoch == 5


async def test_a_lower_epoch_is_refused_also_after_a_restart(world: World) -> None:
    assert world.body.hear_epoch(5)
    assert not world.body.hear_epoch(4)
    await world.do(launch(), epoch=8)
    assert world.body.highest_epoch == 8
    await world.restart()
    result = await world.do(Terminate(1.0), epoch=7)
    assert result.outcome is Outcome.REFUSED
    assert "epoch 7" in result.message
    assert "epoch 8" in result.message


async def test_an_expired_command_is_refused(world: World) -> None:
    result = await world.do(launch(), expires_at=world.clock.now - 1.5)
    assert (result.outcome, result.message) == (Outcome.REFUSED, "came 1.5 s after its deadline")
    assert not world.processes.spawned


async def test_a_stale_generation_is_refused_with_the_true_one(world: World) -> None:
    await world.serving()
    stale = world.command(drain())
    await world.do(SOFT)
    await world.do(Reinstate())
    result = await world.body.execute(stale)
    assert result.outcome is Outcome.REFUSED
    assert "expects generation 3, the instance is at 5" in result.message
    assert world.status().state is InstanceState.IN_SERVICE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"template": "rm"}, "no template 'rm'.*it has: decode, either, prefill"),
        ({"role": Role.PREFILL}, "for decode, not for prefill"),
        ({"parameters": {"model": "x; rm -rf /"}}, "does not match"),
        ({"parameters": {"model": "tiny\n"}}, "does not match"),
        ({"parameters": {"model": "tiny", "extra": "1"}}, "no parameter 'extra'"),
        ({"parameters": {}}, "uses {model}"),
        ({"gpu_indices": ()}, "takes 1 GPUs"),
        ({"gpu_indices": (1, 2)}, "takes 1 GPUs"),
        ({"gpu_indices": (9,)}, "no GPU 9"),
        ({"gate": Gate("carrier-pigeon")}, "no gate of kind"),
        ({"gate": Gate("none", options={"complaint": "bad gate"})}, "bad gate"),
        ({"rank": 2, "rank_count": 2}, "rank 2 of 2"),
        ({"rank": 1, "rank_count": 2}, "rank 1 must be told the host of rank 0"),
        ({"leader_host": "--config=/etc/passwd"}, "is no host"),
        ({"service": "../x"}, "is no name"),
        ({"startup_timeout": 0.0}, "longer than 0 s"),
    ],
)
async def test_what_the_configuration_does_not_allow(
    world: World, changes: dict[str, Any], said: str
) -> None:
    result = await world.do(launch(**changes))
    assert result.outcome is Outcome.REFUSED
    assert result.status is None
    assert re.search(said, result.message), result.message
    assert not world.processes.spawned


async def test_odd_instance_ids_are_refused(world: World) -> None:
    for odd in ("", "../../etc/cron.d/x", "a b", "x" * 200):
        assert (await world.do(launch(), odd)).outcome is Outcome.REFUSED


async def test_a_gpu_is_given_once(world: World) -> None:
    both = await asyncio.gather(world.do(launch(), "i1"), world.do(launch(), "i2"))
    outcomes = sorted(result.outcome.value for result in both)
    assert outcomes == ["done", "refused"]
    assert "GPU 0 is held by" in next(r.message for r in both if r.outcome is Outcome.REFUSED)
    world.processes.end(world.processes.only, 1)
    await world.passes()
    assert (await world.do(launch(), "i3")).outcome is Outcome.DONE


async def test_an_instance_id_is_used_once(world: World) -> None:
    await world.do(launch())
    result = await world.do(launch(gpu_indices=(1,)))
    assert "exists already, at generation 1" in result.message


async def test_what_cannot_start_has_failed(world: World) -> None:
    world.processes.spawn_error = "cannot start 'engine': no such file"
    result = await world.do(launch())
    assert (result.outcome, result.message) == (Outcome.FAILED, world.processes.spawn_error)
    assert world.status().state is InstanceState.FAILED
    world.processes.spawn_error = ""
    assert (await world.do(launch(), "i2")).outcome is Outcome.DONE


async def test_withdraw_and_reinstate_are_done_when_recorded(world: World) -> None:
    await world.serving()
    result = await world.do(SOFT)
    assert result.outcome is Outcome.DONE
    assert result.status is not None
    assert result.status.state is InstanceState.WITHDRAWN
    assert result.status.gate_state is GateState.CLOSING
    await world.passes(1)
    assert world.status().gate_state is GateState.CLOSED
    assert world.gate.places == {"r1": set()}
    result = await world.do(Reinstate())
    assert result.outcome is Outcome.DONE
    await world.passes(1)
    assert world.status().gate_state is GateState.OPEN
    assert world.status().generation == 5


async def test_of_two_commands_for_one_generation_one_wins(world: World) -> None:
    await world.serving()
    both = [world.command(SOFT), world.command(drain())]
    results = await asyncio.gather(*(world.body.execute(command) for command in both))
    assert [result.outcome for result in results] == [Outcome.DONE, Outcome.REFUSED]
    assert world.status().state is InstanceState.WITHDRAWN
    assert world.status().generation == 4


async def test_a_fault_in_a_start_that_started_nothing_has_failed_and_frees_the_gpu(
    world: World,
) -> None:
    real = world.processes.spawn

    def fails(order: Order) -> Ident:
        raise ZeroDivisionError(order.instance_id)

    world.processes.spawn = fails  # type: ignore[method-assign]
    result = await world.do(launch())
    assert result.outcome is Outcome.FAILED
    assert "ZeroDivisionError" in result.message
    assert world.status().state is InstanceState.FAILED
    world.processes.spawn = real  # type: ignore[method-assign]
    assert (await world.do(launch(), "i2")).outcome is Outcome.DONE


async def test_a_fault_after_a_start_loses_no_engine(world: World) -> None:
    real = world.processes.spawn

    def fails(order: Order) -> Ident:
        real(order)
        raise ZeroDivisionError(order.instance_id)

    world.processes.spawn = fails  # type: ignore[method-assign]
    assert (await world.do(launch())).outcome is Outcome.DONE
    assert world.status().pid == world.processes.only.pid
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE


async def test_a_fault_of_our_own_is_answered_with_unknown(world: World) -> None:
    def fails(order: object) -> Ident:
        raise ZeroDivisionError(order)

    world.processes.spawn = fails  # type: ignore[method-assign]
    world.processes.find = fails  # type: ignore[assignment,method-assign]
    command = world.command(launch())
    assert (await world.body.execute(command)).outcome is Outcome.UNKNOWN
    assert (await world.body.execute(command)).outcome is Outcome.UNKNOWN
    # Nobody knows whether it runs: so its GPU is held.
    assert "GPU 0 is held by i1" in (await world.do(launch(), "i2")).message


async def test_leased_reasons_need_a_lease(world: World) -> None:
    await world.serving()
    for reason in (WithdrawReason.SOFT_SCALE_IN, WithdrawReason.RATIO_HOLD):
        result = await world.do(Withdraw(reason))
        assert (result.outcome, result.message) == (
            Outcome.REFUSED,
            f"{reason} needs a lease longer than 0 s",
        )


@pytest.mark.parametrize("action", [SOFT, Reinstate(), drain()])
async def test_what_makes_no_sense_while_launching_is_refused(world: World, action: Action) -> None:
    await world.do(launch())
    assert (await world.do(action)).outcome is Outcome.REFUSED


async def test_roles_cannot_be_switched_where_the_template_does_not_say_how(world: World) -> None:
    await world.serving()
    result = await world.do(SwitchRole(Role.PREFILL))
    assert result.outcome is Outcome.REFUSED
    assert "has no roleSwitch" in result.message


async def test_an_unknown_instance_is_said(world: World) -> None:
    result = await world.do(Reinstate(), "nobody")
    assert (result.outcome, result.message) == (
        Outcome.REFUSED,
        "no instance 'nobody' on this host",
    )


async def test_engines_of_others_are_facts_not_subjects(tmp_path: Path) -> None:
    engine = {
        "instance_id": "s1",
        "service": "chat",
        "role": "decode",
        "endpoint": "http://127.0.0.1:9/",
        "gpus": [3],
    }
    world = World(tmp_path, engines=[engine])
    await world.body.start()
    status = world.status("s1")
    assert (status.state, status.origin) == (InstanceState.IN_SERVICE, "config")
    assert [target.url for target in world.eyes.targets] == ["http://127.0.0.1:9/metrics"]
    for action in (drain(), Terminate(1.0), SOFT, Reinstate()):
        result = await world.do(action, "s1")
        assert result.outcome is Outcome.REFUSED
        assert "is not for this agent to command (origin config)" in result.message
    taken: Launch = launch(gpu_indices=(3,))
    assert "GPU 3 is held by s1" in (await world.do(taken)).message
    await world.passes(1)
    assert world.status("s1").state is InstanceState.IN_SERVICE
    await world.body.close()


async def test_a_full_disk_refuses_and_touches_nothing(world: World) -> None:
    await world.serving()
    world.write_fails = True
    for action in (SOFT, drain(), Terminate(1.0)):
        result = await world.do(action)
        assert result.outcome is Outcome.REFUSED
        assert result.message.startswith("journal cannot be written: No space left on device")
    result = await world.do(launch(gpu_indices=(1,)), "i2")
    assert result.message.startswith("journal cannot be written")
    assert world.processes.spawned == 1
    assert [status.instance_id for status in world.body.statuses()] == ["i1"]
    await world.passes(3)
    assert world.status().state is InstanceState.IN_SERVICE
    assert not world.processes.terminated
    world.write_fails = False
    assert (await world.do(SOFT)).outcome is Outcome.DONE
    assert (await world.do(launch(gpu_indices=(1,)), "i2")).outcome is Outcome.DONE


async def test_a_disk_that_fills_up_in_a_drain_stops_before_term(world: World) -> None:
    await world.serving()
    await world.do(drain())
    world.write_fails = True
    await world.passes(15)
    assert world.status().state is InstanceState.DRAINING
    assert not world.processes.terminated
    world.write_fails = False
    await world.passes(2)
    assert world.status().state is InstanceState.TERMINATED


async def test_answers_wait_until_acknowledged_also_over_a_restart(world: World) -> None:
    await world.serving()
    await world.do(drain())
    await world.passes(10)
    outcomes = [(r.command_id, r.outcome) for r in world.body.unacknowledged()]
    assert outcomes == [("c1", Outcome.DONE), ("c2", Outcome.ACCEPTED), ("c2", Outcome.DONE)]
    world.body.acknowledge(["c1", "c2"])
    assert [r.outcome for r in world.body.unacknowledged()] == [Outcome.DONE]
    await world.restart(killed=False)
    left = world.body.unacknowledged()
    assert [(r.command_id, r.outcome) for r in left] == [("c2", Outcome.DONE)]
    world.body.acknowledge(["c2"])
    await world.passes()
    await world.restart()
    assert world.body.unacknowledged() == []


async def test_a_caller_that_goes_away_does_not_stop_a_command(world: World) -> None:
    caller = asyncio.create_task(world.body.execute(world.command(launch())))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await world.restart(killed=False)
    assert world.processes.spawned == 1
    assert [result.outcome for result in world.body.unacknowledged()] == [Outcome.DONE]
