"""The charts of a report: which curves of a run are drawn, and what they are held against."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.report.drawing import Axis, Line, Mark, chart, is_outside, timeline
from heteroscale_simulator.report.series import MINUTE, Series, Stage, held, series
from heteroscale_simulator.report.study import PolicyRun, ServiceRun
from heteroscale_simulator.report.words import clock, number, percent
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.world.result import Decision

COLOURS = 6
LIMITS = (
    ("limit: static peak", "fixed", "static_peak"),
    ("limit: oracle, free ratio", "oracle", "free"),
)
SIGNS = {Role.PREFILL: "P", Role.DECODE: "D"}
ACTIONS = {
    "scale": "c2",
    "scale_out": "c2",
    "repair": "c0",
    "scale_in": "c3",
    "reinstate": "c4",
    "finish_scale_in": "c1",
    "release": "c4",
    "switch_role": "c4",
}
"""Known actions in the order of their lanes; others follow."""


def load_charts(load: Load) -> str:
    """Return what arrives: requests and tokens a second."""
    axis = Axis(MINUTE, load.seconds)
    requests = [Line("requests/s", "c0", load.by_minute("requests"))]
    tokens = [
        Line("prompt tokens/s", "c0", load.by_minute("input_tokens")),
        Line("output tokens/s", "c1", load.by_minute("output_tokens")),
    ]
    return figure(
        "Requests that arrive", requests, chart(axis, requests, label="requests")
    ) + figure("Tokens that arrive", tokens, chart(axis, tokens, label="tokens"))


def gpu_chart(runs: Sequence[PolicyRun]) -> str:
    """Return the GPUs that each policy holds, over all services, by minute."""
    seconds = max(service.load.seconds for service in runs[0].services)
    lines = [
        Line(
            run.policy,
            f"c{index % COLOURS}" + (" dash" if index >= COLOURS else ""),
            held((i for s in run.services for i in s.intervals), seconds, MINUTE, by_gpus=True),
        )
        for index, run in enumerate(runs)
    ]
    limits = [(service.service, service.limits) for service in runs[0].services if service.limits]
    for name, style, which in LIMITS if limits else ():
        bills = [line for who, one in limits for line in getattr(one, which).intervals(who)]
        lines.append(Line(name, style, held(bills, seconds, MINUTE, by_gpus=True)))
    drawing = chart(Axis(MINUTE, seconds), lines, label="GPUs held", height=230)
    return figure("GPUs held, in any state", lines, drawing)


def service_charts(run: ServiceRun) -> str:
    """Return counts, latencies, ratio and decisions of one service."""
    axis = Axis(MINUTE, run.load.seconds)
    minutes = series(run)
    parts = [_counts(axis, minutes, role, run.limits) for role in (Role.PREFILL, Role.DECODE)]
    parts.append(_ratio(axis, minutes, run.limits))
    parts += _latency(axis, "TTFT", run.slo.ttft, minutes.ttft_mean, minutes.ttft_met)
    parts += _latency(axis, "TBT", run.slo.tbt, minutes.tbt_mean, minutes.tbt_met)
    parts.append(_decisions(axis, run.decisions))
    return "\n".join(parts)


def figure(title: str, lines: Sequence[Line], drawing: str) -> str:
    """Return a chart with its title and the key of its colours."""
    keys = "".join(
        f'<small><span class="key {line.style}"></span>{html.escape(line.name)}</small>'
        for line in lines
    )
    return f"<figure><figcaption>{html.escape(title)}{keys}</figcaption>{drawing}</figure>"


def describe(told: Decision) -> str:
    """Return a decision's change in short: ``scale out +2P +4D``."""
    change = [
        f"{told.delta[role]:+d}{sign}" for role, sign in SIGNS.items() if told.delta.get(role)
    ]
    return " ".join([told.action.replace("_", " "), *change])


def _counts(axis: Axis, minutes: Series, role: Role, limits: Limits | None) -> str:
    stages = minutes.counts[role]
    stacked = [
        Line("in service", "in-service", stages[Stage.IN_SERVICE]),
        Line("starting", "starting", stages[Stage.STARTING]),
        Line("withdrawn or draining", "leaving", stages[Stage.LEAVING]),
    ]
    lines = []
    if limits is not None:
        lines.append(Line("oracle", "oracle", limits.free.counts[role].astype(np.float64)))
    drawing = chart(axis, lines, stacked=stacked, label=f"{role} instances")
    return figure(f"{role.capitalize()} instances", [*stacked, *lines], drawing)


def _ratio(axis: Axis, minutes: Series, limits: Limits | None) -> str:
    lines = [Line("prefill per decode, in service", "c0", minutes.ratio)]
    if limits is not None:
        best = limits.free.counts
        lines.append(Line("oracle's", "oracle", best[Role.PREFILL] / best[Role.DECODE]))
    return figure("P:D ratio", lines, chart(axis, lines, label="P:D ratio", height=140))


def _latency(
    axis: Axis, name: str, slo: float | None, mean: Floats, met: Floats
) -> tuple[str, ...]:
    lines = [Line(f"mean {name} of the minute's arrivals, ms", "c0", mean * 1000)]
    limits = []
    if slo is not None:
        limit = Line(f"SLO {number(slo * 1000)} ms", "limit", np.full(len(mean), slo * 1000))
        above = ", far above" if is_outside(limit, lines) else ""
        limits.append(Line(limit.name + above, limit.style, limit.values))
    means = figure(
        name, [*lines, *limits], chart(axis, lines, limits=limits, label=f"{name}, ms", height=140)
    )
    if slo is None:
        return (means,)
    shares = [Line(f"share of requests within the {name} SLO", "c2", met)]
    drawing = chart(axis, shares, say=_share, top=1.0, label=f"{name} met", height=96)
    return means, figure(f"{name} SLO met", shares, drawing)


def _share(value: float) -> str:
    return percent(value, 0) if value in (0.0, 0.25, 0.5, 0.75, 1.0) else percent(value)


def _decisions(axis: Axis, decisions: Sequence[Decision]) -> str:
    known = list(ACTIONS)
    others = sorted({told.action for told in decisions} - set(known))
    lanes = [name for name in (*known, *others) if any(d.action == name for d in decisions)]
    marks = [
        Mark(
            told.at,
            lanes.index(told.action),
            f"mark {ACTIONS.get(told.action, 'c5')}",
            f"{clock(told.at)} {describe(told)}\n{told.reason}",
        )
        for told in decisions
        if told.at <= axis.seconds
    ]
    names = [name.replace("_", " ") for name in lanes]
    short = [name.replace("finish scale in", "finish in") for name in names]
    if not marks:
        return figure("Decisions", [], "<p class=quiet>None: no count was ever changed.</p>")
    return figure("Decisions (hover for the reason)", [], timeline(axis, short, marks, "decisions"))
