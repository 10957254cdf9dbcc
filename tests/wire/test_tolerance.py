"""Ends of different age understand each other: what is newer is left out, or refused in words."""

from __future__ import annotations

from typing import TypeVar

import pytest
from google.protobuf.message import Message

from heteroscale.convert import duration, timestamp
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import GateState, InstanceState, Outcome, Role
from heteroscale_agent import model, wire
from heteroscale_agent.identity import Identity
from heteroscale_coordinator.edge import wire as coordinator_wire

_M = TypeVar("_M", bound=Message)
NEWER = 99
STATUS = model.InstanceStatus("i-0123456789ab", "chat", Role.DECODE, InstanceState.IN_SERVICE, 3)


def from_a_newer_end(message: _M) -> _M:
    """Return the message as it is after a trip through an end that knows more fields."""
    text = b"\xfa\x3f" + bytes([5]) + b"newer"  # field 1023, five bytes
    number = b"\xf0\x3f\x07"  # field 1022, a number
    parsed = type(message).FromString(text + message.SerializeToString() + number)
    assert parsed.ByteSize() == message.ByteSize() + len(text) + len(number)
    return parsed


def hello() -> agent_pb2.Hello:
    return wire.hello(
        Identity("a1", 4, "token", "boot", "host-1"),
        inventory=model.Inventory(cpu_count=8),
        instances=[STATUS],
        history=[],
        results=[model.CommandResult("c1", Outcome.DONE, status=STATUS)],
        now=0.0,
        version="9.9",
        cluster_id="",
        highest_epoch=2,
        advertise_host="10.0.0.1",
    )


def command(**changes: object) -> agent_pb2.Command:
    message = agent_pb2.Command(
        command_id="c1",
        instance_id="i1",
        epoch=3,
        expected_generation=2,
        server_time=timestamp(1000.0),
        deadline=duration(30.0),
    )
    for name, value in changes.items():
        getattr(message, name).CopyFrom(value)
    return message


# ---- an old coordinator hears a newer agent ---------------------------------------------------


def test_unknown_fields_of_a_hello_change_nothing() -> None:
    told = hello()
    newer = from_a_newer_end(told)
    newer.instances[0].CopyFrom(from_a_newer_end(told.instances[0]))
    assert coordinator_wire.rank_facts(newer.instances) == coordinator_wire.rank_facts(
        told.instances
    )
    assert len(coordinator_wire.rank_facts(newer.instances)) == 1


def test_unknown_numbers_in_a_hello_leave_the_rest_standing() -> None:
    newer = hello()
    newer.instances[0].gate_state = NEWER  # type: ignore[assignment]
    newer.instances[0].withdraw_reason = NEWER  # type: ignore[assignment]
    newer.instances.add().CopyFrom(newer.instances[0])
    newer.instances[1].instance_id = "i-ba9876543210"
    newer.instances[1].role = NEWER  # type: ignore[assignment]
    facts = {fact.instance_id: fact for fact in coordinator_wire.rank_facts(newer.instances)}
    known = facts["i-0123456789ab"]
    assert known.state is InstanceState.IN_SERVICE
    assert known.reason is None
    assert known.gate_state in set(GateState)


# ---- an old agent hears a newer coordinator ---------------------------------------------------


def test_unknown_fields_of_a_command_change_nothing() -> None:
    message = command(withdraw=agent_pb2.Withdraw(reason=types_pb2.WITHDRAW_REASON_OPERATOR))
    newer = from_a_newer_end(message)
    newer.withdraw.CopyFrom(from_a_newer_end(message.withdraw))
    assert wire.command(newer, 5.0) == wire.command(message, 5.0)


def test_an_action_this_agent_does_not_know_is_refused_in_words() -> None:
    with pytest.raises(wire.WireError, match="no action this agent knows; upgrade the agent"):
        wire.command(from_a_newer_end(command()), 5.0)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"withdraw": agent_pb2.Withdraw(reason=NEWER)}, r"withdraw\.reason is missing, or newer"),  # type: ignore[arg-type]
        ({"withdraw": agent_pb2.Withdraw()}, r"withdraw\.reason is missing, or newer"),
        ({"launch": agent_pb2.Launch(service="chat", role=NEWER)}, "role is missing, or newer"),  # type: ignore[arg-type]
        ({"switch_role": agent_pb2.SwitchRole()}, "role is missing, or newer"),
    ],
)
def test_a_word_this_agent_does_not_know_is_refused_in_words(
    action: dict[str, object], says: str
) -> None:
    with pytest.raises(wire.WireError, match=says):
        wire.command(command(**action), 5.0)


@pytest.mark.parametrize("missing", ["command_id", "instance_id"])
def test_a_command_without_its_names_is_refused(missing: str) -> None:
    message = command(reinstate=agent_pb2.Reinstate())
    message.ClearField(missing)  # type: ignore[arg-type]
    with pytest.raises(wire.WireError, match="needs command_id and instance_id"):
        wire.command(message, 5.0)


def test_what_an_older_coordinator_leaves_out_has_a_safe_meaning() -> None:
    launch = wire.command(
        command(launch=agent_pb2.Launch(service="chat", role=types_pb2.ROLE_DECODE)), 5.0
    ).action
    assert isinstance(launch, model.Launch)
    assert (launch.rank_count, launch.startup_timeout, launch.gate.kind) == (1, 600.0, "none")
    assert launch.ratio_hold is None
    drain = wire.command(command(drain=agent_pb2.Drain()), 5.0).action
    assert isinstance(drain, model.Drain)
    assert drain.force_after is None  # never forced, not forced at once
    assert drain.quiet_scrapes == 1


def test_a_message_with_no_body_this_end_knows_is_no_error() -> None:
    newer = from_a_newer_end(agent_pb2.ConnectResponse())
    assert newer.WhichOneof("body") is None
