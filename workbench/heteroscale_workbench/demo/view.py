"""The demo on a terminal: load, both roles, ratio, states, and the last decisions in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heteroscale.words import Role
from heteroscale_workbench.demo.recording import Note, Recording, Sample

BARS = " ▁▂▃▄▅▆▇█"
COLOURS = {
    "in_service": "green",
    "warming": "cyan",
    "launching": "cyan",
    "pending": "bright_black",
    "withdrawn": "yellow",
    "draining": "red",
    "unknown": "magenta",
}
ACTIONS = {
    "scale_out": "green",
    "repair": "green",
    "scale_in": "yellow",
    "reinstate": "magenta",
    "release": "magenta",
    "switch_role": "magenta",
    "finish_scale_in": "red",
}
HISTORY = 70


def sparkline(values: Sequence[float], top: float | None = None) -> str:
    """Return one bar per value, the highest at ``top`` or their maximum."""
    high = max([top or 0.0, *values, 1e-9])
    return "".join(BARS[round(max(0.0, v) / high * (len(BARS) - 1))] for v in values)


def live(recording: Recording) -> RenderableType:
    """Return the whole picture of the moment."""
    if not recording.samples:
        return Panel("starting: coordinator, router, agents …", title="HeteroScale demo")
    now = recording.samples[-1]
    shown = recording.samples[-HISTORY:]
    return Panel(
        Group(_load(shown), _roles(now, recording.ratio), _decisions(recording.notes[-6:])),
        title=f"HeteroScale demo · {now.t:.0f} s · {now.phase}",
        subtitle=f"{recording.requests} requests · {now.in_flight} in flight · "
        f"{len(recording.failures)} failed · {recording.retried} retried",
    )


def _load(samples: Sequence[Sample]) -> Table:
    table = Table.grid(padding=(0, 1))
    top = max(max(s.offered, s.served) for s in samples)
    now = samples[-1]
    table.add_row(
        "offered", sparkline([s.offered for s in samples], top), f"{now.offered:.0f} tok/s"
    )
    table.add_row("served", sparkline([s.served for s in samples], top), f"{now.served:.0f} tok/s")
    latency = [s.ttft or 0.0 for s in samples]
    ttft, tbt = _ms(now.ttft), _ms(now.tbt)
    table.add_row("TTFT", sparkline(latency), f"{ttft} · TBT {tbt}")
    return table


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1000:.0f} ms"


def _roles(now: Sample, ratio: float) -> Table:
    table = Table.grid(padding=(0, 1))
    for role, counts in ((Role.PREFILL, now.prefill), (Role.DECODE, now.decode)):
        boxes = Text()
        for state, colour in COLOURS.items():
            boxes.append("■ " * counts.get(state, 0), style=colour)
        said = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items() if n)
        table.add_row(role.value, boxes, Text(said, style="bright_black"))
    have = "?" if now.ratio is None else f"{now.ratio:.2f}"
    table.add_row("ratio", have, Text(f"wanted {ratio:g}", style="bright_black"))
    return table


def _decisions(notes: Iterable[Note]) -> Table:
    table = Table.grid(padding=(0, 1))
    for note in notes:
        action = Text(note.action.replace("_", " "), style=ACTIONS.get(note.action, "white"))
        delta = f"{note.prefill_delta:+d}P {note.decode_delta:+d}D"
        table.add_row(f"{note.t:4.0f} s", action, delta, Text(note.reason, overflow="ellipsis"))
    return table


def summary(console: Console, recording: Recording) -> None:
    """Print the figures and the verdict."""
    table = Table(show_header=False, box=None)
    figures = recording.summary()
    for name, value in figures.items():
        if name not in ("ok", "complaints"):
            table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    for complaint in recording.complaints():
        console.print(f"[red]✗[/red] {complaint}")
    if figures["ok"]:
        console.print(
            "[green]✓[/green] both roles grew and shrank together, nothing was lost or retried"
        )
