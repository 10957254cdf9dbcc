"""Down the wire: each order carries what its service's specification says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.convert import seconds, to_wire, unix_seconds
from heteroscale.v1 import agent_pb2
from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.model import Command, Instance, Rank, Service, Verb
from heteroscale_coordinator.core.spec import DrainSpec, GateSpec
from heteroscale_coordinator.edge import orders
from tests.coordinator import values

NOW = values.NOW


def order(verb: Verb, **fields: object) -> Command:
    made = Command("cmd-1", verb, "agent-1", "i-1", "chat", "dec-7", 5, NOW - 3, NOW + 57)
    return replace(made, **fields)  # type: ignore[arg-type]


def send(
    command: Command,
    instance: Instance | None = None,
    service: Service | None = None,
    leader_host: str = "",
) -> agent_pb2.Command:
    message = orders.command(command, instance, service, epoch=9, now=NOW, leader_host=leader_host)
    assert message is not None
    assert message.WhichOneof("body") == "command"
    return message.command


def spec_of(service: Service, **fields: object) -> Service:
    return replace(service, spec=service.spec.model_copy(update=fields))


def test_every_order_says_who_why_when_and_on_what_it_counts() -> None:
    message = send(order(Verb.REINSTATE))
    assert (message.command_id, message.cause, message.epoch) == ("cmd-1", "dec-7", 9)
    assert (message.instance_id, message.expected_generation) == ("i-1", 5)
    assert unix_seconds(message.server_time) == NOW
    assert seconds(message.deadline) == 57
    assert message.WhichOneof("action") == "reinstate"


def test_a_deadline_that_has_passed_is_zero_not_negative() -> None:
    assert seconds(send(order(Verb.REINSTATE, expires_at=NOW - 9)).deadline) == 0


def test_a_launch_carries_its_place_and_its_service() -> None:
    service = values.service()
    decode = service.spec.roles[Role.DECODE].model_copy(
        update={"parameters": {"model": "tiny"}, "startup_timeout": 90.0}
    )
    gate = GateSpec(kind="file", options={"path": "/run/gate"})
    roles = {**service.spec.roles, Role.DECODE: decode}
    service = spec_of(service, roles=roles, gate=gate)
    ranks = (Rank("agent-1", (0, 1)), Rank("agent-2", (4, 5)))
    instance = replace(values.instance(state=InstanceState.PENDING), ranks=ranks)
    launch = send(order(Verb.LAUNCH, rank=1), instance, service, "10.0.0.1").launch
    assert (launch.service, launch.group, launch.template) == ("chat", "chat-0", "chat-decode")
    assert (launch.rank, launch.rank_count) == (1, 2)
    assert list(launch.gpu_indices) == [4, 5]
    assert launch.leader_host == "10.0.0.1"
    assert dict(launch.parameters) == {"model": "tiny"}
    assert (launch.gate.kind, dict(launch.gate.options)) == ("file", {"path": "/run/gate"})
    assert seconds(launch.startup_timeout) == 90
    assert not launch.HasField("ratio_hold")
    assert send(order(Verb.LAUNCH), instance, service, "10.0.0.1").launch.leader_host == ""


def test_a_launch_may_begin_held_back() -> None:
    held = order(Verb.LAUNCH, reason=WithdrawReason.RATIO_HOLD, lease=40.0)
    launch = send(held, values.instance(), values.service()).launch
    assert seconds(launch.ratio_hold) == 40


def test_a_launch_whose_service_or_role_is_gone_is_not_sent() -> None:
    for instance, service in (
        (values.instance(), None),
        (None, values.service()),
        (values.instance(role=Role.AGGREGATED), values.service()),
    ):
        assert orders.command(order(Verb.LAUNCH), instance, service, epoch=1, now=NOW) is None


@pytest.mark.parametrize(
    ("reason", "given", "lease"),
    [
        (WithdrawReason.SOFT_SCALE_IN, None, 12.0),
        (WithdrawReason.SOFT_SCALE_IN, 25.0, 25.0),
        (WithdrawReason.RATIO_HOLD, 60.0, 60.0),
        (WithdrawReason.OPERATOR, None, None),
        (WithdrawReason.MAINTENANCE, 9.0, None),
    ],
)
def test_only_withdrawals_that_end_by_themselves_have_a_lease(
    reason: WithdrawReason, given: float | None, lease: float | None
) -> None:
    service = spec_of(values.service(), drain=DrainSpec(lease=12.0))
    withdraw = send(order(Verb.WITHDRAW, reason=reason, lease=given), None, service).withdraw
    got = seconds(withdraw.lease) if withdraw.HasField("lease") else None
    assert got == lease


@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
def test_a_switch_carries_the_role(role: Role) -> None:
    assert send(order(Verb.SWITCH_ROLE, role=role)).switch_role.role == to_wire(role)


def test_a_drain_carries_how_to_empty_and_how_to_stop() -> None:
    settings = DrainSpec(settle=2.0, quiet_scrapes=5, force_after=600.0, grace=7.0, lease=20.0)
    drain = send(order(Verb.DRAIN), None, spec_of(values.service(), drain=settings)).drain
    assert (seconds(drain.lease), seconds(drain.settle_time)) == (20, 2)
    assert (drain.quiet_scrapes, seconds(drain.force_after)) == (5, 600)
    assert seconds(drain.grace) == 7
    never = spec_of(values.service(), drain=DrainSpec(force_after=None))
    assert not send(order(Verb.DRAIN), None, never).drain.HasField("force_after")


def test_an_instance_that_outlived_its_service_is_drained_by_default() -> None:
    drain = send(order(Verb.DRAIN)).drain
    assert seconds(drain.grace) == DrainSpec().grace
    assert seconds(send(order(Verb.TERMINATE)).terminate.grace) == DrainSpec().grace


def test_renewals_are_grouped_by_length() -> None:
    leases = {f"i-{n}": 30.0 for n in range(orders.IDS_PER_RENEWAL + 1)} | {"short": 5.0}
    messages = [message.lease_renewal for message in orders.renewals(leases, 3, NOW)]
    assert [seconds(m.duration) for m in messages] == [5, 30, 30]
    assert {i for m in messages for i in m.instance_ids} == set(leases)
    assert {m.epoch for m in messages} == {3}
