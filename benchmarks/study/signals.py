"""The eight signals of the paper, the policy that follows each alone, and the paper's own order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.study.ground import Yardstick

PAPER: Mapping[str, float] = {
    "prefill_tps": 0.81,
    "prefill_sm_activity": 0.73,
    "prefill_gpu_util": 0.72,
    "decode_tps": 0.67,
    "tbt": 0.56,
    "decode_sm_activity": 0.32,
    "ttft": 0.30,
    "decode_gpu_util": 0.15,
}
"""Correlation of GPU count with load in the paper's eight hours, read off its plots."""
TIERS = [{"breach": 1.1, "step": 0.1}, {"breach": 1.2, "step": 0.2}]
HEADROOM = 0.8
"""A target is so much of the reading at the largest load that is held: one rule for every signal."""


def slo_of(signal: str, tested: Yardstick) -> dict[str, float]:
    """Return what the service promises: a driving latency's mean at the largest load held, or nothing."""
    return {kind: tested.readings[kind] for kind in ("ttft", "tbt") if kind == signal}


def policy_of(signal: str, tested: Yardstick) -> dict[str, Any]:
    """Return the policy that follows one signal alone; no guard is under it."""
    if signal in ("ttft", "tbt"):
        return {"driver": "latency", "guard": {"tiers": TIERS}}
    target = round(HEADROOM * tested.readings[signal], 4)
    return {
        "driver": "signals",
        "signals": [{"signal": signal, "target": target}],
        "guard": {"tiers": []},
    }
