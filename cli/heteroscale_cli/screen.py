"""The live view: the picture as rich draws it. Only a terminal's ``watch`` loads this."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heteroscale.convert import unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli import lines, tables, text
from heteroscale_cli.output import Cell, Row
from heteroscale_cli.picture import Picture
from heteroscale_cli.vocabulary import Kind

_FRAME_ROWS = 12
"""Rows that borders, titles and headers take; the rest is shared by instances and decisions."""


def render(picture: Picture, now: float, *, height: int = 40) -> RenderableType:
    """Return the view at ``now`` (seconds since 1970) for a terminal of ``height`` rows."""
    parts: list[RenderableType] = []
    if picture.lost:
        parts.append(Text(f"Not up to date: {picture.lost}; trying again", style="bold red"))
    elif not picture.synced:
        parts.append(Text("Waiting for the first state …", style="cyan"))
    services = sorted(picture.services.values(), key=lambda s: s.name)
    parts += [_service(item) for item in services]
    if picture.synced and not services:
        parts.append(Text("No services. Write one and `heteroscale apply -f FILE`."))
    used = _FRAME_ROWS + sum(4 + len(s.roles) + len(s.signals) for s in services)
    room = max(6, height - used)
    parts.append(_instances(picture, now, room // 2))
    parts.append(_decisions(picture, max(3, room - room // 2)))
    return Group(*parts)


def _service(item: pb.Service) -> RenderableType:
    roles = _grid(["role", "in service", "wanted", "pending", "withdrawn", "draining", "unknown"])
    for role in item.roles:
        counts = (role.in_service, role.wanted, role.pending, role.withdrawn, role.draining)
        roles.add_row(text.role_word(role.role), *map(str, counts), str(role.unknown))
    load = _grid(["load", ""])
    for signal in item.signals:
        known = signal.HasField("value")
        value = f"{text.measured(signal, 'value')} {signal.unit if known else ''}".rstrip()
        good = signal.quality in ("", "ok", "idle")
        load.add_row(Text(signal.name), Text(value, style="" if good else "yellow"))
    if not item.signals:
        load.add_row("unknown", text.UNKNOWN)
    sides = Table.grid(padding=(0, 4))
    sides.add_row(roles, load)
    condition = tables.coloured(text.condition(item), tables.STATE_COLOURS)
    title = Text.assemble(
        (item.name, "bold"),
        "  ",
        (condition.text, condition.colour or ""),
        f"  {text.mode(item)}  ratio {text.ratio(item)}",
    )
    body = [sides, Text(text.clean(item.quarantine), style="red")] if item.quarantine else [sides]
    return Panel(Group(*body), title=title, title_align="left")


def _instances(picture: Picture, now: float, limit: int) -> RenderableType:
    items = sorted(
        picture.instances.values(), key=lambda i: (i.service, i.role, unix_seconds(i.create_time))
    )
    view = _grid(tables.header(Kind.INSTANCE, wide=False))
    _fill(view, (tables.row(Kind.INSTANCE, i, now, wide=False) for i in items[:limit]))
    hidden = len(items) - limit
    title = f"Instances ({len(items)}{f', {hidden} not shown' if hidden > 0 else ''})"
    return Panel(view, title=title, title_align="left")


def _decisions(picture: Picture, limit: int) -> RenderableType:
    view = Table.grid(padding=(0, 2))
    for decision in list(picture.decisions)[-limit:]:
        last = decision.last_time if decision.HasField("last_time") else decision.time
        view.add_row(Text(text.clock(last), style="dim"), Text(lines.decision_words(decision)))
    return Panel(view, title="Decisions", title_align="left")


def _grid(titles: Iterable[str]) -> Table:
    view = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        view.add_column(title, no_wrap=True)
    return view


def _fill(view: Table, rows: Iterable[Row]) -> None:
    for row in rows:
        cells = (item if isinstance(item, Cell) else Cell(item) for item in row)
        # Text, not markup: a host's name may hold brackets.
        view.add_row(*(Text(text.clean(cell.text), style=cell.colour or "") for cell in cells))
