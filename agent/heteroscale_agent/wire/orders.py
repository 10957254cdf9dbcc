"""Commands, as they come off the wire."""

from __future__ import annotations

from google.protobuf.message import Message

from heteroscale.convert import from_wire, seconds
from heteroscale.v1 import agent_pb2
from heteroscale.words import Role, WithdrawReason
from heteroscale_agent.model import (
    Action,
    Command,
    Drain,
    Gate,
    Launch,
    Reinstate,
    SwitchRole,
    Terminate,
    Withdraw,
)


class WireError(ValueError):
    """What came over the wire makes no sense; the text goes back as the refusal."""


def command(message: agent_pb2.Command, expires_at: float) -> Command:
    """Return the command, due by ``expires_at`` on the agent's clock.

    Raises:
        WireError: it has no action that this agent knows, or lacks what the action needs.

    """
    if not message.command_id or not message.instance_id:
        raise WireError("a command needs command_id and instance_id")
    return Command(
        command_id=message.command_id,
        cause=message.cause,
        epoch=message.epoch,
        instance_id=message.instance_id,
        expected_generation=message.expected_generation,
        expires_at=expires_at,
        action=_action(message),
    )


def _action(message: agent_pb2.Command) -> Action:
    match message.WhichOneof("action"):
        case "launch":
            return _launch(message.launch)
        case "withdraw":
            reason = from_wire(WithdrawReason, message.withdraw.reason)
            if reason is None:
                raise WireError("withdraw.reason is missing, or newer than this agent")
            return Withdraw(reason, _optional(message.withdraw, "lease"))
        case "reinstate":
            return Reinstate()
        case "drain":
            drain = message.drain
            return Drain(
                lease=seconds(drain.lease),
                settle_time=seconds(drain.settle_time),
                quiet_scrapes=max(1, drain.quiet_scrapes),
                force_after=_optional(drain, "force_after"),
                grace=seconds(drain.grace),
            )
        case "terminate":
            return Terminate(seconds(message.terminate.grace))
        case "switch_role":
            return SwitchRole(_role(message.switch_role.role))
        case _:
            raise WireError("the command has no action this agent knows; upgrade the agent")


def _launch(launch: agent_pb2.Launch) -> Launch:
    return Launch(
        service=launch.service,
        role=_role(launch.role),
        template=launch.template,
        gpu_indices=tuple(launch.gpu_indices),
        rank=launch.rank,
        rank_count=max(1, launch.rank_count),
        group=launch.group,
        parameters=dict(launch.parameters),
        gate=Gate(
            launch.gate.kind or "none", tuple(launch.gate.routers), dict(launch.gate.options)
        ),
        startup_timeout=seconds(launch.startup_timeout) or 600.0,
        leader_host=launch.leader_host,
        ratio_hold=_optional(launch, "ratio_hold"),
    )


def _role(number: int) -> Role:
    role = from_wire(Role, number)
    if role is None:
        raise WireError("role is missing, or newer than this agent")
    return role


def _optional(message: Message, field: str) -> float | None:
    return seconds(getattr(message, field)) if message.HasField(field) else None
