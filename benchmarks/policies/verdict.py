"""Whether a traffic's figures reach the goal, each clause by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.policies.reach import COST, MET, Reach
from benchmarks.policies.why import CAUSES, Why

ALIKE = 0.0001
"""Attainments that differ by no more are equal: it is what the table shows."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a variant came to on a traffic: means over seeds."""

    cost: float
    """GPU-hours ÷ the free oracle's."""
    cost_fixed: float
    """GPU-hours ÷ the fixed ratio's oracle."""
    gpu_hours: float
    joint: float
    """Shares of the arrived requests, 0 to 1, as are the next two."""
    ttft: float
    tbt: float
    reversals: float
    events: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a traffic says of the joint policy; ``failed`` is empty where all of the goal is reached."""

    failed: tuple[str, ...]
    because: str

    @property
    def reached(self) -> bool:
        """Whether every clause holds."""
        return not self.failed


def score(runs: Sequence[Mapping[str, float | None]]) -> Score:
    """Return the mean of a variant's runs, one a seed."""

    def of(column: str) -> float:
        return mean(run[column] or 0.0 for run in runs)

    return Score(
        cost=mean(
            (run["gpu_hours"] or 0.0) / (run["gpu_hours_oracle_free"] or 1.0) for run in runs
        ),
        cost_fixed=mean(
            (run["gpu_hours"] or 0.0) / (run["gpu_hours_oracle_fixed"] or 1.0) for run in runs
        ),
        gpu_hours=of("gpu_hours"),
        joint=of("joint_attainment"),
        ttft=of("ttft_attainment"),
        tbt=of("tbt_attainment"),
        reversals=of("reversals"),
        events=of("scale_events"),
    )


def verdict(
    joint: Score, hpa: Score | None, reasons: Sequence[Why], reach: Reach | None = None
) -> Verdict:
    """Return which clauses of the goal fail, and why; without HPA its clauses are not judged."""
    failed = []
    if joint.cost > COST:
        failed.append(f"cost {joint.cost:.2f} > {COST}")
    if joint.joint < MET:
        failed.append(f"met {_percent(joint.joint)} < {_percent(MET)}")
    if hpa is not None:
        if joint.gpu_hours > hpa.gpu_hours:
            failed.append(f"GPU-hours {joint.gpu_hours / hpa.gpu_hours:.2f} × HPA's")
        if joint.joint < hpa.joint - ALIKE:
            failed.append(f"met {_percent(joint.joint)} < HPA's {_percent(hpa.joint)}")
        # None at all is as few as there can be.
        if joint.reversals >= hpa.reversals and joint.reversals > 0:
            failed.append(f"reversals {joint.reversals:g} ≥ HPA's {hpa.reversals:g}")
    told = _reasons(joint, hpa, reasons)
    if reach is not None and not reach.reached and (joint.cost > COST or joint.joint < MET):
        told.append(reach.text)
    return Verdict(tuple(failed), "; ".join(told) if failed else "")


def _reasons(joint: Score, hpa: Score | None, reasons: Sequence[Why]) -> list[str]:
    """Return the larger parts of what was missed and overspent, from the runs themselves."""
    if not reasons:
        return []
    told = []
    if joint.joint < max(MET, hpa.joint - ALIKE if hpa else 0.0):
        told.append(_missed(reasons))
    if joint.cost > COST or (hpa is not None and joint.gpu_hours > hpa.gpu_hours):
        told.append(_spent(reasons))
    if hpa is not None and joint.reversals >= hpa.reversals and joint.reversals > 0:
        told.append(_turned(reasons))
    return told


def _missed(reasons: Sequence[Why]) -> str:
    shares = {cause: mean(one.causes.get(cause, 0.0) for one in reasons) for cause in CAUSES}
    roles = {
        role: mean(one.short_roles.get(role, 0.0) for one in reasons)
        for role in ("prefill", "decode")
    }
    parts = [f"{100 * share:.0f} % {cause}" for cause, share in shares.items() if share >= 0.005]
    if shares["short"] >= 0.005:
        parts[-1 if shares["burst"] < 0.005 else -2] += (
            f" (of prefill {100 * roles['prefill']:.0f} %, of decode {100 * roles['decode']:.0f} %)"
        )
    late, slow = mean(one.ttft for one in reasons), mean(one.tbt for one in reasons)
    return f"missed: {', '.join(parts)}; TTFT {100 * late:.1f} %, TBT {100 * slow:.1f} % of all"


def _spent(reasons: Sequence[Why]) -> str:
    states = ("starting", "withdrawn", "draining", "beyond", "short")
    shares = {state: mean(one.over.get(state, 0.0) for one in reasons) for state in states}
    parts = [
        f"{100 * share:+.0f} % {state}" for state, share in shares.items() if abs(share) >= 0.005
    ]
    return f"beyond the oracle: {', '.join(parts)}"


def _turned(reasons: Sequence[Why]) -> str:
    total: Counter[str] = Counter()
    for one in reasons:
        total.update(one.turns)
    return "turned: " + ", ".join(f"{count} × {what}" for what, count in total.most_common(3))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
