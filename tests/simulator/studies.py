"""Studies made by hand: small, with figures computed here in the plainest way there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.measures.schedule import Held, Schedule
from heteroscale_simulator.plant.port import Outcomes, Slo
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.world.result import Decision, Usage

SECONDS = 3600
PRICES = {"H20": 1.5, "L20": 0.8}


def load(seconds: int = SECONDS) -> Load:
    """Return a hump of traffic in two classes."""
    at = np.arange(seconds)
    rate = 20 + 15 * np.sin(at / seconds * 2 * math.pi)
    requests = np.stack([rate * 0.8, rate * 0.2], axis=1)
    return Load(requests, requests * [[800.0, 4000.0]], requests * [[200.0, 300.0]])


def outcomes(arriving: Load, good: float = 0.99) -> Outcomes:
    """Return what became of it: a share ``good`` met everything, ten requests failed in all."""
    arrived = arriving.requests.sum(axis=1)
    failed = np.full(len(arrived), 10 / len(arrived))
    finished = arrived - failed
    return Outcomes(
        arrived=arrived,
        finished=finished,
        failed=failed,
        ttft_met=arrived * (good + 0.005),
        tbt_met=arrived * (good + 0.002),
        met=arrived * good,
        ttft_sum=finished * 0.4,
        first_tokens=finished,
        tbt_sum=finished * 0.03,
        input_tokens=arriving.input_tokens.sum(axis=1),
        output_tokens=arriving.output_tokens.sum(axis=1),
    )


def stay(
    name: str, role: Role, gpu: str, states: Sequence[tuple[str, float, float]]
) -> list[Interval]:
    """Return the intervals of one instance of the service ``chat``."""
    return [
        Interval("chat", name, role, gpu, 2, InstanceState(state), begin, end)
        for state, begin, end in states
    ]


def intervals(seconds: float = SECONDS) -> list[Interval]:
    """Return five instances: three that stay, one that comes, one that goes."""
    come = [("pending", 600, 601), ("launching", 601, 660), ("warming", 660, 690)]
    go = [("in_service", 0, 2400), ("withdrawn", 2400, 2700), ("draining", 2700, 2735.5)]
    return [
        *stay("p0", Role.PREFILL, "H20", [("in_service", 0, seconds)]),
        *stay("d0", Role.DECODE, "H20", [("in_service", 0, seconds)]),
        *stay("d1", Role.DECODE, "L20", [("in_service", 0, seconds)]),
        *stay("p1", Role.PREFILL, "L20", [*come, ("in_service", 690, seconds)]),
        *stay("d2", Role.DECODE, "L20", go),
    ]


def decision(at: float, action: str, prefill: int, decode: int, reason: str) -> Decision:
    """Return a decision of the service ``chat``."""
    delta = {Role.PREFILL: prefill, Role.DECODE: decode}
    return Decision(at, "chat", action, reason, "demand", delta, {})


DECISIONS = (
    decision(600, "scale_out", 1, 0, "demand 9,000 exceeds supply 8,000 by more than 10 % <b>&"),
    decision(2400, "scale_in", 0, -1, "demand 4,000 tok/s is below supply 8,000"),
    decision(2700, "finish_scale_in", 0, 0, "300 s of watching went well"),
    decision(2800, "scale_out", 1, 1, "no, it did not"),
)


def usage(seconds: int = SECONDS) -> dict[Role, Usage]:
    """Return how busy both roles were."""
    minutes = math.ceil(seconds / 60)
    ramp: Floats = np.linspace(0.2, 0.8, minutes)
    return {
        Role.PREFILL: Usage(np.linspace(120.0, 240.0, minutes), ramp, ramp * 0.8),
        Role.DECODE: Usage(np.linspace(360.0, 240.0, minutes), 0.5 + ramp / 2, ramp * 0.5),
    }


def schedule(prefill: int, decode: int, seconds: int = SECONDS) -> Schedule:
    """Return the same counts, always, on instances of two GPUs."""
    edges = np.append(np.arange(0.0, seconds, 60.0), float(seconds))
    counts = {Role.PREFILL: prefill, Role.DECODE: decode}
    held = [
        Held(role, "H20", 2, level, 0.0, 0.0, float(seconds))
        for role, count in counts.items()
        for level in range(1, count + 1)
    ]
    minutes = len(edges) - 1
    return Schedule(edges, {r: np.full(minutes, n) for r, n in counts.items()}, tuple(held))


def figures(policy: str = "joint", hours: float = 8.0, met: float = 0.99) -> RunFigures:
    """Return plausible figures that belong to nothing else here."""
    return RunFigures(
        policy=policy,
        gpu_hours=hours,
        gpu_hours_static_peak=10.0,
        gpu_hours_oracle_free=6.0,
        gpu_hours_oracle_fixed=7.0,
        ttft_attainment=met + 0.005,
        tbt_attainment=met + 0.002,
        joint_attainment=met,
        gpu_util_prefill=0.5,
        gpu_util_decode=0.8,
        sm_prefill=0.4,
        sm_decode=None,
        scale_events=3,
        reversals=2,
        ratio_error_mean=math.nan,
        requests=72000.0,
        requests_failed=10.0,
        cost=10.0,
        wall_s=1.5,
    )


def service(name: str = "chat", policy: str = "joint", hours: float = 8.0) -> ServiceRun:
    """Return one service's run."""
    arriving = load()
    return ServiceRun(
        service=name,
        slo=Slo(ttft=1.0, tbt=0.05),
        load=arriving,
        outcomes=outcomes(arriving),
        intervals=intervals(),
        decisions=DECISIONS,
        figures=figures(policy, hours),
        limits=Limits(schedule(1, 2), schedule(1, 2), schedule(2, 4)),
        usage=usage(),
    )


def study(policies: Sequence[str] = ("joint", "hpa"), services: Sequence[str] = ("chat",)) -> Study:
    """Return a study of these policies over these services."""
    runs = [
        PolicyRun(figures(policy, 8.0 + i), [service(name, policy, 8.0 + i) for name in services])
        for i, policy in enumerate(policies)
    ]
    return Study(
        version="0.0",
        seed=7,
        command=["heteroscale", "simulate", "--trace", "a trace.csv"],
        inputs={"trace": ["a trace.csv"], "rate_scale": 1.0},
        runs=runs,
        prices=PRICES,
        notes=["speeds of L20 are estimates <i>"],
    )
