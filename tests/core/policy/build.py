"""Short ways to make services and members whose tracks say what a test wants them to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from heteroscale.words import GateState, InstanceState, Role, ScrapeQuality, WithdrawReason
from heteroscale_coordinator.core.devices import percents
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import EngineSample, Instance, LatencySample, Rank
from heteroscale_coordinator.core.policy import Member, ServiceView
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.track import Track

P, D, A = Role.PREFILL, Role.DECODE, Role.AGGREGATED
NOW = 100_000.0
TARGET = 1000.0
PLAIN: dict[str, Any] = {
    "tolerance_out": 0.10,
    "tolerance_in": 0.10,
    "cooldown_out": 180.0,
    "cooldown_in": 600.0,
    "dampening_in": 0.5,
    "backlog_horizon": 30.0,
    "observation": 300.0,
    "least_step_in": 0.0,
    "hold": 0.0,
    "reserve": {"deviations": 0.0},
}
"""What tests reckon with, whatever the defaults are; nothing is held and nothing kept in reserve."""
_numbers = count(1)


@dataclass(frozen=True)
class Flow:
    """What one engine does each second; None is a series it does not tell."""

    tokens: float | None = 0.0
    requests: float | None = 0.0
    """Requests that end."""
    prompt: float | None = 0.0
    computed: float | None = None
    """Prompt tokens that missed the cache; None: not told apart."""
    aborted: float | None = 0.0
    running: float | None = 0.0
    waiting: float | None = 0.0
    waiting_growth: float = 0.0
    transferring: float | None = None
    kv_usage: float | None = 0.1
    ttft: float | None = 0.1
    tbt: float | None = 0.02
    gpu: int | None = None
    """GPU utilisation in percent; None: not told."""
    sm: int | None = None
    rdma: int | None = None
    quality: ScrapeQuality = ScrapeQuality.OK


IDLE = Flow()


def decoding(tokens: float, output: float = 200.0, **changes: Any) -> Flow:
    """Return a decode engine that serves ``tokens`` a second in requests of ``output`` tokens."""
    requests = tokens / output
    flow = Flow(tokens, requests, prompt=requests * 1000, running=requests * output * 0.02)
    return replace(flow, **changes)


def prefilling(computed: float, prompt: float = 1000.0, **changes: Any) -> Flow:
    """Return a prefill engine that computes so many prompt tokens a second."""
    requests = computed / prompt
    return replace(
        Flow(tokens=requests, requests=requests, prompt=computed, computed=computed, tbt=None),
        **changes,
    )


def track_of(
    *phases: Flow, now: float = NOW, heard_for: float = 120.0, silent_for: float = 0.0,
    each: float = 60.0, interval: float = 5.0,
) -> Track:  # fmt: skip
    """Return a track of ``heard_for`` seconds; the last phase is the newest, each ``each`` s long."""
    track = Track(interval)
    end, at = now - silent_for, now - silent_for - heard_for
    total = dict.fromkeys(
        ("tokens", "requests", "prompt", "computed", "aborted", "ttft", "tbt"), 0.0
    )
    while at <= end + 1e-6:
        back = int((end - at - 1e-6) // each)
        flow = phases[max(0, len(phases) - 1 - max(0, back))]
        track.add(_sample(flow, at, total, end - at), percents((flow.gpu, flow.sm, flow.rdma)))
        for name in ("tokens", "requests", "prompt", "computed", "aborted"):
            total[name] += (getattr(flow, name) or 0.0) * interval
        at += interval
        total["ttft"] += (flow.ttft or 0.0) * (flow.requests or 0.0) * interval
        total["tbt"] += (flow.tbt or 0.0) * (flow.tokens or 0.0) * interval
    return track


def _sample(flow: Flow, at: float, total: dict[str, float], left: float) -> EngineSample:
    waiting = flow.waiting
    if waiting is not None:
        waiting = max(0.0, waiting - flow.waiting_growth * left)
    return EngineSample(
        instance_id="",
        quality=flow.quality,
        at=at,
        generation_tokens=None if flow.tokens is None else total["tokens"],
        prompt_tokens=None if flow.prompt is None else total["prompt"],
        computed_prompt_tokens=None if flow.computed is None else total["computed"],
        requests_finished=None if flow.requests is None else total["requests"],
        requests_aborted=None if flow.aborted is None else total["aborted"],
        running=flow.running,
        waiting=waiting,
        transferring=flow.transferring,
        kv_usage=flow.kv_usage,
        ttft=None if flow.ttft is None else LatencySample(total["ttft"], total["requests"]),
        tbt=None if flow.tbt is None else LatencySample(total["tbt"], total["tokens"]),
    )


def instance_of(
    role: Role,
    state: InstanceState = InstanceState.IN_SERVICE,
    *,
    gpu_type: str = "H20",
    reason: WithdrawReason | None = None,
    changed_at: float = NOW - 3600,
    **changes: Any,
) -> Instance:
    """Return an instance with an id of its own."""
    number = next(_numbers)
    instance = Instance(
        instance_id=f"i-{number}",
        service="chat",
        role=role,
        ranks=(Rank(f"a-{number}", (0,)),),
        state=state,
        generation=1,
        created_at=changed_at,
        changed_at=changed_at,
        gpu_type=gpu_type,
        reason=reason,
        gate_state=GateState.OPEN if state is InstanceState.IN_SERVICE else GateState.CLOSED,
    )
    return replace(instance, **changes)


def member(
    role: Role,
    *phases: Flow,
    state: InstanceState = InstanceState.IN_SERVICE,
    now: float = NOW,
    heard_for: float = 120.0,
    silent_for: float = 0.0,
    each: float = 60.0,
    **changes: Any,
) -> Member:
    """Return a member; without a phase it was never heard. Each phase but the first lasts ``each`` s."""
    instance = instance_of(role, state, **changes)
    if not phases:
        return Member(instance, None)
    track = track_of(*phases, now=now, heard_for=heard_for, silent_for=silent_for, each=each)
    return Member(instance, track)


def starting(role: Role, **changes: Any) -> Member:
    """Return a member on its way into service."""
    return member(role, state=InstanceState.LAUNCHING, **changes)


def withdrawn(role: Role, **changes: Any) -> Member:
    """Return a member under soft scale-in, empty."""
    changes.setdefault("reason", WithdrawReason.SOFT_SCALE_IN)
    return member(role, IDLE, state=InstanceState.WITHDRAWN, **changes)


def many(n: int, role: Role, *phases: Flow, **changes: Any) -> tuple[Member, ...]:
    """Return ``n`` members alike."""
    return tuple(member(role, *phases, **changes) for _ in range(n))


def spec_of(
    *,
    prefill: tuple[int, int] = (1, 16),
    decode: tuple[int, int] = (1, 32),
    ratio: Any = 0.5,
    target: Any = TARGET,
    prefill_target: Any = 5000.0,
    slo: dict[str, Any] | None = None,
    **policy: Any,
) -> ServiceSpec:
    """Return a prefill/decode service; counts are (min, max)."""
    return ServiceSpec.model_validate(
        {
            "roles": {
                "prefill": _role("p", prefill, prefill_target),
                "decode": _role("d", decode, target),
            },
            "ratio": ratio,
            "slo": {"ttft": 1.0, "tbt": 0.05} if slo is None else slo,
            "policy": {**PLAIN, **policy},
        }
    )


def aggregated_spec(bounds: tuple[int, int] = (1, 32), **policy: Any) -> ServiceSpec:
    """Return a service of one role."""
    return ServiceSpec.model_validate(
        {
            "roles": {"aggregated": _role("a", bounds, TARGET)},
            "slo": {"ttft": 1.0, "tbt": 0.05},
            "policy": {**PLAIN, **policy},
        }
    )


def _role(template: str, bounds: tuple[int, int], target: Any) -> dict[str, Any]:
    return {"template": template, "min": bounds[0], "max": bounds[1], "target": target}


def view_of(
    spec: ServiceSpec, *members: Member, memory: PolicyMemory | None = None, **changes: Any
) -> ServiceView:
    """Return a view in which every wanted instance is there and no cooldown runs."""
    view = ServiceView("chat", spec, members, now=NOW)
    known = memory or PolicyMemory(wanted=view.present(), low_since=NOW - 3600)
    return replace(view, **{"memory": known, **changes})
