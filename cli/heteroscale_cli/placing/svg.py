"""A fleet as a picture: domains as boxes, nodes as cells in the colour of their GPU type.

A cell fills from below with what is held; what is closed is hatched. A domain's outline says how scarce
its network position is. Every box and cell tells its figures when it is pointed at, and bears them as
``data-`` attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from heteroscale_cli.placing.boxes import Box, Sizes, lay_out, sizes_for
from heteroscale_cli.placing.tree import ALL, NODE, Branch, Use

News = Mapping[str, Mapping[str, Mapping[str, int]]]
"""GPUs that are taken anew: by agent, role and GPU type."""

COLOURS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948", "#e15759", "#9c755f"),
)
"""By GPU type in order of name; told apart by most eyes."""
_STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2430; }
.muted { fill: #6b7280; }
.domain { fill: #ffffff; stroke: #c3c8d2; stroke-width: 0.8; }
.cluster { fill: #f6f7f9; }
.s2 { fill: #eceff4; }
.medium { stroke: #596273; stroke-width: 1.4; stroke-dasharray: 4 2; }
.high { stroke: #1f2430; stroke-width: 1.8; }
.free { fill-opacity: 0.28; }
.closed { fill: url(#hatch); }
.new { fill: none; stroke: #1f2430; stroke-width: 1.6; }
.letter { fill: #ffffff; font-weight: 600; }
.beside { font-weight: 600; }
"""
_READABLE = 6.0
_MARGIN = 24.0
_LETTER = 0.56
"""Width of a letter to the size of the font, about."""


def draw(root: Branch, title: str = "", news: News | None = None) -> str:
    """Return the SVG of a tree; ``news`` are GPUs that a plan would take, marked by their roles."""
    title, news = title or root.name, news or {}
    sizes = sizes_for(root.nodes)
    box = lay_out(root, sizes)
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(root.by_type)}
    width = max(box.width, 640.0) + 2 * _MARGIN
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    _add(svg, "title", title)
    _add(svg, "style", _STYLE)
    _hatch(svg)
    _rect(svg, 0, 0, width, 0, fill="#ffffff")  # its height is known at the end
    top = _heading(svg, root, (title, news), colours, width)
    body = _add(svg, "g", transform=f"translate({_MARGIN:g} {top:g})")
    for one, x, y in box.walk():
        if one.branch.level == NODE:
            cell = _cell(body, one, x, y, colours)
            agent = one.branch.node.view.agent_id if one.branch.node else ""
            if agent in news:
                _mark(cell, one, x, y, news[agent])
        else:
            _domain(body, one, x, y, sizes)
    height = top + box.height + _MARGIN
    svg[3].set("height", f"{height:g}")
    svg.set("viewBox", f"0 0 {width:g} {height:g}")
    svg.set("width", f"{width:g}")
    svg.set("height", f"{height:g}")
    return ET.tostring(svg, encoding="unicode") + "\n"


# ---- heading and legend ------------------------------------------------------------------------


def _heading(
    svg: ET.Element, root: Branch, plan: tuple[str, News], colours: dict[str, str], width: float
) -> float:
    """Draw title, figures and legend; return where the picture begins."""
    use, (title, news) = root.use, plan
    _text(svg, _MARGIN, 38, title, 22, weight="600")
    closed = f", {use.closed:,} closed" if use.closed else ""
    lines = (
        f"{root.nodes:,} nodes, {use.gpus:,} GPUs: {use.free:,} free, {use.held:,} held{closed}.",
        f"{root.empty:,} nodes are empty; {root.scattered:,} free GPUs are on nodes partly held.",
    )
    for place, line in enumerate(lines):
        _text(svg, _MARGIN, 60 + 18 * place, line, 13, style="muted")
    flow = _Flow(svg, width - _MARGIN, 104.0)
    for name, one in root.by_type.items():
        flow.item(f"{name or 'unknown type'} {_share(one)}", fill=colours[name])
    flow.newline()
    flow.item("free", fill="#596273", style="free")
    flow.item("held", fill="#596273")
    flow.item("closed: cordoned, sick or silent", style="closed")
    roles = Counter[str]()
    for taken in news.values():
        roles.update({role: sum(by_type.values()) for role, by_type in taken.items()})
    for role, gpus in roles.items():
        flow.item(f"new {role} ({role[:1].upper()}): {gpus:,} GPUs", style="new", on="#596273")
    flow.newline()
    for name, one in root.by_class.items():
        flow.item(f"{name} class {_share(one)}", style=f"domain {name}")
    return flow.y + 26.0


def _share(use: Use) -> str:
    return f"{use.free:,} of {use.gpus:,} free"


class _Flow:
    """Legend items in rows."""

    def __init__(self, svg: ET.Element, limit: float, y: float) -> None:
        self._svg, self._limit, self._x, self.y = svg, limit, _MARGIN, y

    def item(self, label: str, *, fill: str = "", style: str = "", on: str = "") -> None:
        """Draw a swatch with its label; ``on``: what it lies on."""
        width = 26 + len(label) * 12 * _LETTER
        if self._x > _MARGIN and self._x + width > self._limit:
            self.newline()
        if on:
            _rect(self._svg, self._x, self.y - 10, 14, 12, fill=on, rx=2)
        _rect(self._svg, self._x, self.y - 10, 14, 12, fill=fill, style=style, rx=2)
        _text(self._svg, self._x + 20, self.y, label, 12)
        self._x += width + 14

    def newline(self) -> None:
        """Begin the next row."""
        self._x, self.y = _MARGIN, self.y + 20


# ---- domains and nodes -------------------------------------------------------------------------


def _domain(body: ET.Element, box: Box, x: float, y: float, sizes: Sizes) -> None:
    branch = box.branch
    group = _add(body, "g", **_data(branch))
    level = branch.level if branch.level in ("s1", "s2") else "cluster"
    # The class is that of a whole S1 only; wider domains hold several.
    subgroup = next(iter(branch.by_class)) if level == "s1" and len(branch.by_class) == 1 else ""
    style = " ".join(filter(None, ("domain", level, subgroup)))
    _rect(group, x, y, box.width, box.height, style=style, rx=3)
    _add(group, "title", _tip(branch))
    font = sizes.title * 0.78
    use = branch.use
    room = int((box.width - 2 * sizes.pad) / (font * _LETTER))
    label = branch.name if branch.level == ALL else f"{branch.level} {branch.name}"
    full = f"{label} · {use.free:,}/{use.gpus:,} free"
    # Names differ at their ends.
    short = f"…{branch.name[1 - room :]}" if room > 1 else ""
    shown = next((text for text in (full, label, branch.name) if len(text) <= room), short)
    _text(group, x + sizes.pad, y + sizes.title, shown, font)


def _cell(body: ET.Element, box: Box, x: float, y: float, colours: dict[str, str]) -> ET.Element:
    branch, size = box.branch, box.height
    group = _add(body, "g", **_data(branch))
    parts = max(1, branch.use.gpus)
    at = x
    for name, use in branch.by_type.items():
        # A node of several types is cut upright, by how many GPUs each has.
        width = box.width * use.gpus / parts
        _rect(group, at, y, width, size, fill=colours[name], style="free")
        held, closed = size * use.held / use.gpus, size * use.closed / use.gpus
        if held:
            _rect(group, at, y + size - held, width, held, fill=colours[name])
        if closed:
            _rect(group, at, y, width, closed, style="closed")
        at += width
    if not branch.by_type:
        _rect(group, x, y, box.width, size, style="domain")
    _add(group, "title", _tip(branch))
    return group


def _letter(
    cell: ET.Element,
    around: tuple[float, float, float, float],
    new: tuple[float, float],
    letters: str,
) -> None:
    """Letter what is new: in its frame, else in the free part above it, else not at all.

    ``around``: left, top and width of its type's part of the cell, and how much of it is above the frame;
    ``new``: top and height of the frame.
    """
    left, top, width, above = around
    for begin, height, style in ((*new, "letter"), (top, above, "beside")):
        font = min(height, width) * 0.6
        wide = len(letters) * font * _LETTER
        if wide <= width and font >= _READABLE:
            middle = begin + height / 2 + font * 0.36
            _text(cell, left + (width - wide) / 2, middle, letters, font, style=style)
            return


def _mark(
    cell: ET.Element, box: Box, x: float, y: float, taken: Mapping[str, Mapping[str, int]]
) -> None:
    """Frame the part of a cell that is new, say for what, and letter it where there is room."""
    branch, at = box.branch, x
    for name, use in branch.by_type.items():
        width = box.width * use.gpus / branch.use.gpus
        new = sum(by_type.get(name, 0) for by_type in taken.values())
        if new:
            top = y + box.height * (1 - use.held / use.gpus)
            height = box.height * new / use.gpus
            _rect(cell, at + 0.8, top + 0.8, width - 1.6, height - 1.6, style="new")
            letters = "".join(role[:1].upper() for role in taken)
            _letter(cell, (at, y, width, top - y), (top, height), letters)
        at += width
    cell.set("data-new", str(sum(sum(by_type.values()) for by_type in taken.values())))
    lines = (f"new {role}: {sum(by_type.values())} GPUs" for role, by_type in taken.items())
    for tip in cell.iter("title"):
        tip.text = "\n".join([tip.text or "", *lines])


def _tip(branch: Branch) -> str:
    use, node = branch.use, branch.node
    lines = [f"{branch.level} {'/'.join(branch.path) or branch.name}"]
    lines += [
        f"{name or 'unknown type'}: {_share(one)}, {one.held:,} held"
        for name, one in branch.by_type.items()
    ]
    lines += [f"{name} class: {_share(one)}" for name, one in branch.by_class.items()]
    if node is None:
        lines.append(f"{branch.nodes:,} nodes, {branch.empty:,} empty")
    elif use.closed:
        lines.append(f"{use.closed} closed {node.view.why_not}".rstrip())
    return "\n".join(lines)


def _data(branch: Branch) -> dict[str, str]:
    use = branch.use
    return {
        "class": f"of-{branch.level}",
        "data-name": _printable("/".join(branch.path) or branch.name),
        "data-types": _printable(" ".join(branch.by_type)),
        "data-classes": " ".join(branch.by_class),
        "data-gpus": str(use.gpus),
        "data-free": str(use.free),
        "data-held": str(use.held),
    }


# ---- elements ----------------------------------------------------------------------------------


def _hatch(svg: ET.Element) -> None:
    defs = _add(svg, "defs")
    pattern = _add(
        defs,
        "pattern",
        id="hatch",
        width="4",
        height="4",
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    _rect(pattern, 0, 0, 4, 4, fill="#d6d9df")
    _rect(pattern, 0, 0, 1.6, 4, fill="#8b93a1")


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = _printable(text) or None
    return element


def _rect(
    parent: ET.Element,
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str = "",
    style: str = "",
    rx: float = 0,
) -> None:
    lengths = {"x": x, "y": y, "width": width, "height": height, **({"rx": rx} if rx else {})}
    attributes = {name: f"{value:.6g}" for name, value in lengths.items()}
    attributes |= {"fill": fill} if fill else {}
    attributes |= {"class": style} if style else {}
    _add(parent, "rect", **attributes)


def _text(
    parent: ET.Element,
    x: float,
    y: float,
    text: str,
    size: float,
    *,
    style: str = "",
    weight: str = "",
) -> None:
    attributes = {"x": f"{x:g}", "y": f"{y:g}", "font-size": f"{size:g}"}
    attributes |= {"class": style} if style else {}
    attributes |= {"font-weight": weight} if weight else {}
    _add(parent, "text", text, **attributes)


def _printable(text: str) -> str:
    """Return text that XML may hold: hosts wrote parts of it."""
    return "".join(_clean(text))


def _clean(text: str) -> Iterable[str]:
    return (letter for letter in text if letter.isprintable() or letter == "\n")
