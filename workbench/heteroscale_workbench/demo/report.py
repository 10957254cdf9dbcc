"""The demo's report: one HTML page without a script or a link, drawn as SVG.

Four charts over one time axis (load, counts, ratio, latency) with a mark for each decision, and the
decisions below in words.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_workbench.demo.recording import Note, Recording, Sample

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 200, 56, 16, 26, 24
MARKS = {
    "scale_out": "#1a7f37",
    "repair": "#1a7f37",
    "scale_in": "#bf8700",
    "reinstate": "#8250df",
    "release": "#8250df",
    "switch_role": "#8250df",
    "finish_scale_in": "#cf222e",
}
STATES = {
    "in_service": "#0969da",
    "warming": "#79c0ff",
    "launching": "#b6e3ff",
    "pending": "#ddf4ff",
    "withdrawn": "#d4a72c",
    "draining": "#cf222e",
    "unknown": "#8c959f",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name, colour, and its value at a sample; None leaves a gap."""

    name: str
    colour: str
    value: Callable[[Sample], float | None]


def page(recording: Recording) -> str:
    """Return the report as HTML."""
    summary = recording.summary()
    verdict = "passed" if summary["ok"] else "failed"
    cells = "".join(
        f"<tr><th>{html.escape(name.replace('_', ' '))}</th><td>{html.escape(_say(value))}</td></tr>"
        for name, value in summary.items()
        if name not in ("ok", "complaints")
    )
    complaints = "".join(f"<li>{html.escape(text)}</li>" for text in recording.complaints())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>HeteroScale demo: {verdict}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; color: #1f2328;
  padding: 0 1rem; }}
h1 span {{ color: {"#1a7f37" if summary["ok"] else "#cf222e"}; }}
h2 {{ font-size: 1.05rem; margin: 1.4rem 0 .2rem; }}
svg {{ width: 100%; height: auto; }}
svg text {{ font: 11px system-ui, sans-serif; fill: #59636e; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15rem .8rem .15rem 0; text-align: left;
  vertical-align: top; font-weight: normal; }} th {{ color: #59636e; white-space: nowrap; }}
.mark {{ display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }}
</style></head><body>
<h1>HeteroScale demo: <span>{verdict}</span></h1>
<ul>{complaints}</ul>
<table>{cells}</table>
{_charts(recording)}
<h2>Decisions</h2>
<table>{"".join(_row(note) for note in recording.notes)}</table>
</body></html>
"""


def _say(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - digits that fit


def _row(note: Note) -> str:
    colour = MARKS.get(note.action, "#8c959f")
    delta = f"{note.prefill_delta:+d}P {note.decode_delta:+d}D"
    return (
        f'<tr><th>{note.t:.0f} s</th><td><span class="mark" style="background:{colour}"></span>'
        f"{html.escape(note.action.replace('_', ' '))}</td><td>{delta}</td>"
        f"<td>{html.escape(note.reason)}</td></tr>"
    )


def _charts(recording: Recording) -> str:
    samples, notes = recording.samples, recording.notes
    if not samples:
        return ""
    load = [
        Line("offered output tokens/s", "#8c959f", lambda s: s.offered),
        Line("served tokens/s", "#0969da", lambda s: s.served),
    ]
    latency = [
        Line("TTFT, ms", "#8250df", lambda s: None if s.ttft is None else s.ttft * 1000),
        Line("TBT, ms", "#bf8700", lambda s: None if s.tbt is None else s.tbt * 1000),
    ]
    ratio = [
        Line("prefill ÷ decode in service", "#0969da", lambda s: s.ratio),
        Line("wanted", "#8c959f", lambda _: recording.ratio),
    ]
    parts = [
        _titled("Load", load, lines(samples, notes, load)),
        _stacked_chart("Prefill instances", samples, notes, Role.PREFILL),
        _stacked_chart("Decode instances", samples, notes, Role.DECODE),
        _titled("Ratio", ratio, lines(samples, notes, ratio)),
        _titled("Latency", latency, lines(samples, notes, latency)),
    ]
    return "\n".join(parts)


def _titled(title: str, curves: Iterable[Line], drawing: str) -> str:
    legend = " ".join(_key(curve.name, curve.colour) for curve in curves)
    return f"<h2>{title}</h2><div>{legend}</div>{drawing}"


def _key(name: str, colour: str) -> str:
    return f'<span class="mark" style="background:{colour}"></span>{html.escape(name)} &nbsp;'


def lines(samples: Sequence[Sample], notes: Sequence[Note], curves: Sequence[Line]) -> str:
    """Return a chart of curves over time."""
    values = [v for curve in curves for s in samples if (v := curve.value(s)) is not None]
    top = max(values, default=1.0) * 1.05 or 1.0
    x, y = _scales(samples[-1].t, top)
    drawn = []
    for curve in curves:
        for run in _runs(samples, curve):
            points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in run)
            drawn.append(
                f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="1.6"/>'
            )
    return _frame(samples[-1].t, top, notes, "".join(drawn))


def _runs(samples: Sequence[Sample], curve: Line) -> list[list[tuple[float, float]]]:
    """Split a curve where its value is unknown."""
    runs: list[list[tuple[float, float]]] = [[]]
    for sample in samples:
        value = curve.value(sample)
        if value is None:
            runs.append([])
        else:
            runs[-1].append((sample.t, value))
    return [run for run in runs if run]


def _stacked_chart(title: str, samples: Sequence[Sample], notes: Sequence[Note], role: Role) -> str:
    counts = [s.prefill if role is Role.PREFILL else s.decode for s in samples]
    top = max((sum(c.get(s, 0) for s in STATES) for c in counts), default=1) + 0.5
    x, y = _scales(samples[-1].t, top)
    drawn = []
    ends = [*(s.t for s in samples[1:]), samples[-1].t]
    for sample, end, count in zip(samples, ends, counts, strict=True):
        base = 0
        for state, colour in STATES.items():
            if number := count.get(state, 0):
                drawn.append(
                    f'<rect x="{x(sample.t):.1f}" y="{y(base + number):.1f}" '
                    f'width="{x(end) - x(sample.t) + 0.4:.1f}" '
                    f'height="{y(base) - y(base + number):.1f}" fill="{colour}"/>'
                )
                base += number
    legend = " ".join(_key(state.replace("_", " "), colour) for state, colour in STATES.items())
    return f"<h2>{title}</h2><div>{legend}</div>{_frame(samples[-1].t, top, notes, ''.join(drawn))}"


def _scales(end: float, top: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return (
        lambda t: LEFT + t / (end or 1.0) * wide,
        lambda v: TOP + (1 - v / top) * high,
    )


def _frame(end: float, top: float, notes: Sequence[Note], inside: str) -> str:
    x, y = _scales(end, top)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#d1d9e0" stroke-width=".6"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_tick(value)}</text>'
        )
    parts.extend(
        f'<text x="{x(second):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(end) + 1, 20)
    )
    parts.append(inside)
    for note in notes:
        colour = MARKS.get(note.action, "#8c959f")
        parts.append(
            f'<line x1="{x(note.t):.1f}" x2="{x(note.t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
            f'stroke="{colour}" stroke-dasharray="3 3"/>'
            f'<circle cx="{x(note.t):.1f}" cy="{TOP - 8}" r="5" fill="{colour}">'
            f"<title>{html.escape(note.reason)}</title></circle>"
        )
    return "".join(parts) + "</svg>"
