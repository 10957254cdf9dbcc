"""Findings as one HTML page that needs nothing else: no script, nothing fetched, fit for print."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from importlib import resources

import numpy as np

from heteroscale.words import Role
from heteroscale_advisor.findings import Findings, assumptions, inventory, next_steps, when
from heteroscale_advisor.presence import Floats
from heteroscale_advisor.replay import Kept
from heteroscale_advisor.text import headline
from heteroscale_coordinator.edge.prometheus import promql
from heteroscale_simulator.report.charts import ACTIONS, describe, figure
from heteroscale_simulator.report.drawing import Axis, Line, Mark, chart, timeline
from heteroscale_simulator.report.page import MAX_LISTED, POLICY
from heteroscale_simulator.report.words import clock, number, percent, span
from heteroscale_simulator.world.result import Decision

_UNITS = {Role.PREFILL: "prompt tokens/s"}


def page(found: Findings) -> Iterator[str]:
    """Yield the page in parts."""
    title = f"HeteroScale: what it would do with {found.wishes.service}"
    style = resources.files("heteroscale_simulator.report") / "style.css"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(title)}</title>\n<style>\n{style.read_text('utf-8')}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>"
    )
    grid = found.history.grid
    yield (
        f"<p class=quiet>{when(grid)}: {html.escape(span(grid.seconds))} of recorded traffic, "
        f"{html.escape(percent(found.seen))} of it known, slots of {grid.step:g} s</p>"
        f"<p><strong>{html.escape(headline(found))}</strong></p>"
    )
    yield _figures(found)
    yield _list("What to do next", list(next_steps(found)))
    yield from _charts(found)
    yield _there(found)
    yield _list("What this rests on", list(assumptions(found)))
    yield _decisions([one for one in found.replay.decisions if one.scales])
    yield _queries(found)
    yield "</body></html>\n"


def _policy(found: Findings) -> str:
    return "policy" if Role.AGGREGATED in found.replay.models else "joint policy"


def _figures(found: Findings) -> str:
    replay = found.replay
    rows = (
        ("held, measured", number(replay.held.gpu_hours), replay.held.kept),
        ("held, as the model sees it", "", replay.held_by_model),
        (f"{_policy(found)}, as modelled", number(replay.joint.gpu_hours), replay.joint.kept),
    )
    body = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{hours}</td>{_cells(kept)}</tr>"
        for name, hours, kept in rows
    )
    return (
        "<h2>Figures</h2><table class=figures><thead><tr><th></th><th>GPU-hours</th>"
        "<th>TTFT kept</th><th>TBT kept</th><th>both</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cells(kept: Kept) -> str:
    return "".join(f"<td>{percent(one)}</td>" for one in (kept.ttft, kept.tbt, kept.both))


def _charts(found: Findings) -> Iterator[str]:
    replay, grid = found.replay, found.history.grid
    axis = Axis(round(grid.step), grid.seconds)
    yield "<h2>GPUs and instances</h2>"
    policy = _policy(found)
    gpus = [Line("held", "c1", replay.held.gpus), Line(policy, "c0", replay.joint.gpus)]
    yield figure("GPUs held", gpus, chart(axis, gpus, label="GPUs held", height=230))
    for role in replay.models:
        lines = [
            Line("held", "c1", replay.held.counts[role]),
            Line(policy, "c0", replay.joint.counts[role]),
        ]
        name = f"{role.value.capitalize()} instances"
        yield figure(name, lines, chart(axis, lines, label=name))
    if Role.AGGREGATED not in replay.models:
        ratios = [Line("wanted by the work", "c0", replay.wanted), Line("held", "c1", replay.had)]
        yield figure("P:D ratio", ratios, chart(axis, ratios, label="P:D ratio", height=140))
    yield _timeline(axis, replay.decisions)
    yield "<h2>Traffic and latency, as recorded</h2>"
    for role in replay.models:
        yield from _of_role(found, axis, role)


def _of_role(found: Findings, axis: Axis, role: Role) -> Iterator[str]:
    past, model = found.history.roles[role], found.replay.models[role]
    unit = _UNITS.get(role, "tokens/s")
    work = [Line(f"{role.value} {unit}", "c2", past.work)]
    yield figure(f"{role.value.capitalize()} work", work, chart(axis, work, label=unit, height=140))
    for short, latency in model.latencies.items():
        name, promise = short.upper(), latency.promise
        line = Line(f"mean {name}, ms", "c0", past.mean(short) * 1000)
        limits = []
        if promise.seconds is not None:
            limit = promise.seconds * 1000
            what = "SLO" if promise.stated else "stands for an SLO:"
            values: Floats = np.full(len(past.count), limit)
            limits.append(Line(f"{what} {number(limit)} ms", "limit", values))
        drawing = chart(axis, [line], limits=limits, label=f"{name}, ms", height=140)
        yield figure(name, [line, *limits], drawing)


def _timeline(axis: Axis, decisions: Sequence[Decision]) -> str:
    lanes = [name for name in ACTIONS if any(one.action == name for one in decisions)]
    if not lanes:
        return figure("Decisions", [], "<p class=quiet>None: no count would have changed.</p>")
    marks = [
        Mark(
            one.at,
            lanes.index(one.action),
            f"mark {ACTIONS[one.action]}",
            f"{clock(one.at)} {describe(one)}\n{one.reason}",
        )
        for one in decisions
        if one.action in lanes and one.at <= axis.seconds
    ]
    names = [name.replace("_", " ").replace("finish scale in", "finish in") for name in lanes]
    return figure("Decisions (hover for the reason)", [], timeline(axis, names, marks, "decisions"))


def _there(found: Findings) -> str:
    rows = "".join(
        "<tr>"
        f"<th scope=row>{html.escape(str(row['role']))}</th><td>{row['fewest']} to {row['most']}</td>"
        f"<td>{html.escape(_counts(row['engines']))}</td>"
        f"<td>{html.escape(_counts(row['gpu_types']))}</td>"
        f"<td>{_tokens(row['target'])}</td></tr>"
        for row in inventory(found)
    )
    return (
        "<h2>What is there</h2><table><thead><tr><th></th><th>instances</th><th>engines</th>"
        f"<th>GPU types</th><th>tokens/s sized by</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _marked(sentence: str) -> str:
    """Return a sentence with its `code` as HTML marks it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(sentence))


def _list(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_marked(one)}</li>" for one in sentences)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>"


def _decisions(decisions: Sequence[Decision]) -> str:
    rows = "".join(
        f"<tr><th>{clock(one.at)}</th><td>{html.escape(describe(one))}</td>"
        f"<td>{html.escape(one.reason)}</td></tr>"
        for one in decisions[:MAX_LISTED]
    )
    return (
        f"<h2>What it would have decided</h2><div class=scroll><table>{rows}</table></div>"
        if rows
        else ""
    )


def _queries(found: Findings) -> str:
    def fill(query: str) -> str:
        return promql.fill(query, found.asked.found.select, found.asked.window)

    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td><code>{html.escape(fill(query))}</code></td></tr>"
        for made in found.asked.queries.values()
        for name, query in made.items()
    )
    return f"<h2>Queries</h2><div class=scroll><table>{rows}</table></div>"


def _counts(counts: object) -> str:
    return (
        ", ".join(f"{n}× {name}" for name, n in counts.items()) if isinstance(counts, dict) else ""
    )


def _tokens(value: object) -> str:
    return number(value if isinstance(value, float) else None)
