"""Small conversions that both ends of the wire need: enums by name, durations, timestamps.

Only the ``wire`` rooms, ``service``, ``link`` and the command line import this.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import (
    GateState,
    GpuHealth,
    InstanceState,
    NicDistance,
    Outcome,
    Role,
    ScrapeQuality,
    WithdrawReason,
)

_W = TypeVar("_W", bound=StrEnum)

_ENUMS = {
    Role: (types_pb2.Role, "ROLE_"),
    InstanceState: (types_pb2.InstanceState, "INSTANCE_STATE_"),
    WithdrawReason: (types_pb2.WithdrawReason, "WITHDRAW_REASON_"),
    GateState: (types_pb2.GateState, "GATE_STATE_"),
    ScrapeQuality: (agent_pb2.ScrapeQuality, "SCRAPE_QUALITY_"),
    GpuHealth: (agent_pb2.GpuHealth, "GPU_HEALTH_"),
    NicDistance: (agent_pb2.NicDistance, "NIC_DISTANCE_"),
    Outcome: (agent_pb2.CommandResult.Outcome, "OUTCOME_"),
}
# Kinds keep tables of their own: words of two kinds may share a text ("unknown"), and so a hash.
_TO_WIRE: dict[type[StrEnum], dict[str, int]] = {
    kind: {word.value: wrapper.Value(prefix + word.name) for word in kind}
    for kind, (wrapper, prefix) in _ENUMS.items()
}
_FROM_WIRE: dict[type[StrEnum], dict[int, StrEnum]] = {
    kind: {_TO_WIRE[kind][word.value]: word for word in kind} for kind in _ENUMS
}


def to_wire(word: StrEnum | None) -> int:
    """Return the number of ``word`` on the wire; 0, unspecified, for None."""
    return 0 if word is None else _TO_WIRE[type(word)][word.value]


def from_wire(kind: type[_W], number: int) -> _W | None:
    """Return the word of ``number``, or None when it is unspecified or of a newer version."""
    return _FROM_WIRE[kind].get(number)  # type: ignore[return-value]


def duration(seconds: float) -> Duration:
    """Return ``seconds`` as a wire duration, to the microsecond."""
    result = Duration()
    result.FromMicroseconds(round(seconds * 1e6))
    return result


def seconds(value: Duration) -> float:
    """Return a wire duration in seconds."""
    return value.seconds + value.nanos * 1e-9


def timestamp(unix_seconds: float) -> Timestamp:
    """Return seconds since 1970 as a wire timestamp, to the microsecond."""
    result = Timestamp()
    result.FromMicroseconds(round(unix_seconds * 1e6))
    return result


def unix_seconds(value: Timestamp) -> float:
    """Return a wire timestamp in seconds since 1970."""
    return value.seconds + value.nanos * 1e-9
