"""Small texts of tables and views: ages, numbers, ratios, states, steps. Unknown is ``?``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from heteroscale.convert import from_wire, unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState, Role, WithdrawReason

UNKNOWN = "?"
NONE = "-"
"""Does not apply, which is not the same as unknown."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def clean(text: str) -> str:
    """Return ``text`` on one line without control characters: hosts wrote parts of it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def age(seconds: float | None) -> str:
    """Return ``45s``, ``3m12s``, ``5h10m`` or ``3d4h``; ``0s`` when the other clock is ahead."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR}h"


def since(moment: Timestamp, now: float) -> str:
    """Return the age of ``moment`` at ``now``; an unset timestamp is unknown."""
    stamp = unix_seconds(moment)
    return age(now - stamp) if stamp else UNKNOWN


def ends(item: pb.Instance, now: float) -> str:
    """Return in how long an instance's scheduler ends it, ``in 12m, a successor comes first``."""
    if not item.HasField("end_time"):
        return NONE
    left = unix_seconds(item.end_time) - now
    said = f"in {age(left)}" if left > 0 else "now"
    return f"{said}, a successor comes first" if item.leaving else said


def clock(moment: Timestamp) -> str:
    """Return the local time of day of ``moment``, ``14:03:11``."""
    stamp = unix_seconds(moment)
    if not stamp:
        return UNKNOWN
    return datetime.fromtimestamp(stamp, UTC).astimezone().strftime("%H:%M:%S")


def number(value: float | None) -> str:
    """Return a quantity without false precision: ``0.42``, ``17``, ``1834``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == int(value) or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:.0f}"
    return f"{value:.3g}"


def measured(message: Message, field: str) -> str:
    """Return an optional field of a message as a number; absent is unknown."""
    return number(getattr(message, field)) if message.HasField(field) else UNKNOWN


def role_word(value: int) -> str:
    """Return ``prefill``, ``decode`` and so on; of a newer coordinator, unknown."""
    word = from_wire(Role, value)
    return UNKNOWN if word is None else word.value


def state_word(value: int) -> str:
    """Return ``in_service``, ``withdrawn`` …; of a newer coordinator, unknown."""
    word = from_wire(InstanceState, value)
    return UNKNOWN if word is None else word.value


def state(instance: pb.Instance) -> str:
    """Return the state, and why when it is withdrawn: ``withdrawn (soft_scale_in)``."""
    reason = from_wire(WithdrawReason, instance.withdraw_reason)
    word = state_word(instance.state)
    return f"{word} ({reason.value})" if reason and word == "withdrawn" else word


def role_of(service: pb.Service, role: Role) -> pb.RoleStatus | None:
    """Return the status of one role, or None when the service does not have it."""
    return next((r for r in service.roles if role_word(r.role) == role.value), None)


def counts(status: pb.RoleStatus | None) -> str:
    """Return ``in service/wanted``."""
    return NONE if status is None else f"{status.in_service}/{status.wanted}"


def ratio(service: pb.Service) -> str:
    """Return prefill:decode in service; without decode in service there is none to speak of.

    Of a split prefill, with attention:ffn behind it: ``0.50, 2.00``.
    """
    split, decode = role_of(service, Role.FFN), role_of(service, Role.DECODE)
    if decode is None or not (split or role_of(service, Role.PREFILL)):
        return NONE
    outer = f"{service.ratio:.2f}" if decode.in_service else UNKNOWN
    if split is None:
        return outer
    return f"{outer}, {service.inner_ratio:.2f}" if split.in_service else f"{outer}, {UNKNOWN}"


def prefill(service: pb.Service) -> str:
    """Return prefill's ``in service/wanted``; of a split one, attention's and ffn's: ``4/4+2/2``."""
    parts = [role_of(service, role) for role in (Role.ATTENTION, Role.FFN)]
    if all(parts):
        return "+".join(counts(one) for one in parts)
    return counts(role_of(service, Role.PREFILL))


def condition(service: pb.Service) -> str:
    """Return ``ready``, ``covering`` or ``quarantined``."""
    return "quarantined" if service.quarantine else service.condition or UNKNOWN


def mode(service: pb.Service) -> str:
    """Return who acts on decisions: ``auto``, others (``external``), or nobody (``paused``, …)."""
    words = [w for w, on in (("paused", service.paused), ("advisory", service.advisory)) if on]
    return ",".join(words) or ("external" if service.external else "auto")


def step(decision: pb.Decision) -> str:
    """Return ``+1P +2D``, of a split prefill ``+2A +1F +4D``; a hold has no step."""
    parts = (
        (decision.prefill_delta, "P"),
        (decision.attention_delta, "A"),
        (decision.ffn_delta, "F"),
        (decision.decode_delta, "D"),
    )
    return " ".join(f"{delta:+d}{letter}" for delta, letter in parts if delta) or NONE


def action(decision: pb.Decision) -> str:
    """Return the action, marked when nothing was sent for it."""
    return f"{decision.action} (advice)" if decision.advisory else decision.action


def load(service: pb.Service, names: Iterable[str] = ()) -> str:
    """Return the signals in one line: ``decode_tps 1834 tok/s, ttft ? (missing)``."""
    wanted = set(names)
    parts = [signal(s) for s in service.signals if not wanted or s.name in wanted]
    return ", ".join(parts) or UNKNOWN


def quotas(cluster: pb.Cluster) -> str:
    """Return the most GPUs there, by GPU type and by service, and what the cluster itself allows."""
    told = [
        *(f"{kind}: {most}" for kind, most in sorted(cluster.gpu_quotas.items())),
        *(f"service {name}: {most}" for name, most in sorted(cluster.service_quotas.items())),
        *(
            f"{kind or 'any'}: {most} by its own word"
            for kind, most in sorted(cluster.own_quotas.items())
        ),
    ]
    return ", ".join(told) or NONE


def signal(item: pb.Signal) -> str:
    """Return one signal with its unit, and its quality when that is not plainly good."""
    text = f"{item.name} {measured(item, 'value')}"
    if item.HasField("value") and item.unit:
        text += f" {item.unit}"
    if item.quality in ("", "ok"):
        return text
    return f"{text} ({item.quality}{f': {item.reason}' if item.reason else ''})"
