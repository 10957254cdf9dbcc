"""A study as one HTML page: no script, nothing fetched, light or dark, and made to be printed."""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Iterator, Sequence
from importlib import resources

from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.report.bills import Bill, bills
from heteroscale_simulator.report.charts import (
    ACTIONS,
    describe,
    gpu_chart,
    load_charts,
    service_charts,
)
from heteroscale_simulator.report.figures import summary
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from heteroscale_simulator.report.words import (
    clock,
    comparison,
    number,
    of_oracle,
    percent,
    saved,
    span,
)
from heteroscale_simulator.world.result import Decision

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may do for this page: draw it. Nothing is fetched, no script runs."""
MAX_LISTED = 1000
"""Decisions in a list; the export has all."""
ROWS: Sequence[tuple[str, str]] = (
    ("gpu_hours", "GPU-hours, every GPU held"),
    ("saved", "saved against static peak"),
    ("of_oracle", "share of what the oracle saves"),
    ("cost", "cost (GPU-hours × price)"),
    ("joint_attainment", "requests that met TTFT and TBT"),
    ("ttft_attainment", "requests that met TTFT"),
    ("tbt_attainment", "requests that met TBT"),
    ("requests", "requests"),
    ("requests_failed", "requests failed"),
    ("gpu_util_prefill", "GPU utilisation, prefill"),
    ("gpu_util_decode", "GPU utilisation, decode"),
    ("sm_prefill", "SM activity, prefill"),
    ("sm_decode", "SM activity, decode"),
    ("scale_events", "scale events"),
    ("reversals", "reversals"),
    ("ratio_error_mean", "mean error of ln(P:D) against the oracle"),
    ("wall_s", "seconds to simulate"),
)
SHARES = ("attainment", "gpu_util", "sm_")


def page(study: Study) -> Iterator[str]:
    """Yield the page in parts."""
    services = study.runs[0].services
    title = f"HeteroScale simulation: {', '.join(run.service for run in services)}"
    style = (resources.files(__package__) / "style.css").read_text("utf-8")
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
    )
    yield _head(study)
    yield _table([run.figures for run in study.runs], bills(study))
    yield gpu_chart(study.runs)
    for service in services:
        yield _heading(2, f"Traffic of {service.service}" if len(services) > 1 else "Traffic")
        yield f"<p class=quiet>{html.escape(_traffic(service))}</p>"
        yield load_charts(service.load)
    for run in study.runs:
        yield from _policy(run)
    yield "</body></html>\n"


def _head(study: Study) -> str:
    links = "".join(
        f'<a href="#{_anchor(run)}">{html.escape(run.policy)}</a>' for run in study.runs
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in study.notes)
    return (
        f"<p class=quiet>heteroscale {html.escape(study.version)}, seed {study.seed}</p>"
        f"<p>{html.escape(comparison([run.figures for run in study.runs]))}</p>"
        f"<p><code>{html.escape(shlex.join(study.command))}</code></p>"
        f"{f'<ul>{notes}</ul>' if notes else ''}<nav>{links}</nav>"
    )


def _table(runs: Sequence[RunFigures], limits: Sequence[Bill]) -> str:
    names = [*(run.policy for run in runs), *(f"limit: {bill.name}" for bill in limits)]
    heads = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
    rows = []
    for name, words in ROWS:
        cells = [*(_cell(run, name) for run in runs), *(_limit(bill, name) for bill in limits)]
        drawn = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f"<tr><th scope=row>{html.escape(words)}</th>{drawn}</tr>")
    return (
        "<h2>Figures</h2><div class=wide><table class=figures>"
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _limit(bill: Bill, name: str) -> str:
    """Return what a limit has to say in a row: it is a schedule, no run."""
    if name in ("saved", "of_oracle"):
        return percent(getattr(bill, name))
    return number(getattr(bill, name)) if name in ("gpu_hours", "cost") else ""


def _cell(figures: RunFigures, name: str) -> str:
    if name == "saved":
        return percent(saved(figures))
    if name == "of_oracle":
        return percent(of_oracle(figures))
    value = getattr(figures, name)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return number(None)
    if any(part in name for part in SHARES):
        return percent(value, 2 if name.endswith("attainment") else 1)
    return number(round(value) if name.startswith("requests") else value)


def _policy(run: PolicyRun) -> Iterator[str]:
    yield f'<section class=policy id="{_anchor(run)}">'
    yield _heading(2, run.policy)
    for service in run.services:
        if len(run.services) > 1:
            yield _heading(3, service.service)
        yield service_charts(service)
        yield _list(service.decisions)
    yield "</section>"


def _anchor(run: PolicyRun) -> str:
    return html.escape(f"policy-{run.policy}", quote=True)


def _heading(level: int, text: str) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>\n"


def _traffic(run: ServiceRun) -> str:
    facts = summary(run.load)
    return (
        f"{number(facts['requests'])} requests in {span(facts['seconds'])}: "
        f"{number(facts['requests_per_s_mean'])} a second, "
        f"{number(facts['requests_per_s_peak'])} in the busiest minute; on average "
        f"{number(facts['input_tokens_mean'])} prompt and "
        f"{number(facts['output_tokens_mean'])} output tokens, "
        f"{number(facts['in_out_ratio_low'])} to {number(facts['in_out_ratio_high'])} "
        "prompt tokens for each output token by the hour."
    )


def _list(decisions: Sequence[Decision]) -> str:
    if not decisions:
        return ""
    rows = "".join(
        f"<tr><th>{clock(told.at)}</th>"
        f'<td><span class="key {ACTIONS.get(told.action, "c5")}"></span>'
        f"{html.escape(describe(told))}</td><td>{html.escape(told.reason)}</td></tr>"
        for told in decisions[:MAX_LISTED]
    )
    more = len(decisions) - MAX_LISTED
    rest = f"<p class=quiet>… and {more} more: see --export.</p>" if more > 0 else ""
    return f"<div class=scroll><table>{rows}</table></div>{rest}"
