"""The figures of a study as JSON: ``runs[]``, one for each policy, in the order asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.report.bills import bills
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.summary import summary as traffic_summary


def as_json(study: Study) -> str:
    """Return the document as text; unknown figures are null, never NaN."""
    return json.dumps(_plain(document(study)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def document(study: Study) -> dict[str, object]:
    """Return the study's figures as plain data; the keys of a run are those of ``RunFigures``."""
    first = study.runs[0].services if study.runs else ()
    return {
        "version": study.version,
        "seed": study.seed,
        "command": list(study.command),
        "inputs": dict(study.inputs),
        "trace": {run.service: summary(run.load) for run in first},
        "oracle": {run.service: _oracle(run.limits) for run in first if run.limits is not None},
        "limits": {
            bill.schedule: {"gpu_hours": bill.gpu_hours, "cost": bill.cost} for bill in bills(study)
        },
        "targets": {name: dict(found) for name, found in study.targets.items()},
        "notes": list(study.notes),
        "runs": [_run(run) for run in study.runs],
    }


def summary(load: Load) -> dict[str, float]:
    """Return a load in a few numbers: peaks are of the busiest minute, per second.

    p99 lengths are of means by second and class; ratios of prompt to output tokens of each hour.
    """
    facts = traffic_summary(load)
    prompt, output = float(load.input_tokens.sum()), float(load.output_tokens.sum())
    return {
        "seconds": load.seconds,
        "requests": facts.requests,
        "input_tokens": prompt,
        "output_tokens": output,
        "input_tokens_mean": _or_nan(facts.input_mean),
        "output_tokens_mean": _or_nan(facts.output_mean),
        "input_tokens_p99": _or_nan(facts.input_p99),
        "output_tokens_p99": _or_nan(facts.output_p99),
        "in_out_ratio_low": _or_nan(facts.ratio_low),
        "in_out_ratio_high": _or_nan(facts.ratio_high),
        "longest_gap_s": facts.longest_gap,
        "empty_minutes": facts.empty_minutes,
        "requests_per_s_mean": facts.mean_rate,
        "requests_per_s_peak": facts.peak_minute_rate,
        "input_tokens_per_s_peak": float(load.by_minute("input_tokens").max()),
        "output_tokens_per_s_peak": float(load.by_minute("output_tokens").max()),
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _oracle(limits: Limits) -> dict[str, object]:
    """Return the limits in instances: means and peaks over minutes."""
    free = limits.free.counts
    total = np.sum(list(free.values()), axis=0)
    result: dict[str, object] = {
        "instances_mean": float(total.mean()),
        "instances_peak": int(total.max()),
        "fixed_ratio": limits.fixed.ratio,
        "short_seconds": limits.free.short_seconds,
    }
    for role, counts in free.items():
        result[f"{role}_mean"] = float(counts.mean())
        result[f"{role}_peak"] = int(counts.max())
        result[f"static_peak_{role}"] = int(limits.static_peak.counts[role].max())
    return result


def _run(run: PolicyRun) -> dict[str, object]:
    result = _figures(run.figures)
    if len(run.services) > 1:
        result["services"] = [_service(service) for service in run.services]
    return result


def _service(run: ServiceRun) -> dict[str, object]:
    return {"service": run.service, **_figures(run.figures)}


def _figures(figures: RunFigures) -> dict[str, object]:
    return asdict(figures)


def _plain(value: object) -> object:
    """Return ``value`` as JSON can say it: numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
