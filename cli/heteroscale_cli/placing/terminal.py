"""The tree of a fleet as lines of text, with colours where the terminal has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from heteroscale_cli.output import print_text, use_colour
from heteroscale_cli.placing.folding import Line
from heteroscale_cli.placing.tree import ALL, NODE, Branch, Use, classes_of, sums, total
from heteroscale_cli.text import clean

BAR = 10
CLASS_STYLES = {"low": "green", "medium": "yellow", "high": "magenta"}
_NUMBERS = ("NODES", "EMPTY", "FREE/GPUS", "CLOSED", "FREE")
USED, FREE, CLOSED = "█", "░", "×"
_PALETTE = ("cyan", "yellow", "green", "magenta", "blue", "red")


def console() -> Console:
    """Return where pictures are drawn: lines are never broken when nobody watches."""
    coloured = use_colour()
    plain = Console()
    width = plain.width if plain.is_terminal else 400
    return Console(no_color=not coloured, highlight=False, width=width, markup=False)


def show(drawn: RenderableType) -> None:
    """Print what was drawn, without blanks at the ends of lines."""
    board = console()
    if isinstance(drawn, Table):
        # What is still too wide is left to the terminal to break, rather than cut off.
        board.width = max(board.width, _width(drawn))
    with board.capture() as caught:
        board.print(drawn)
    print_text("\n".join(line.rstrip() for line in caught.get().splitlines()))


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Say on a terminal's standard error that something takes a while; elsewhere nothing."""
    board = Console(stderr=True)
    if not board.is_terminal:
        yield
        return
    with board.status(text):
        yield


def columns(
    titles: Sequence[str], rows: Sequence[Sequence[Text | str]], spare: Sequence[str]
) -> Table:
    """Return an aligned table; where the terminal is narrow without what can be spared, first first."""
    room = console().width
    kept = [frozenset(titles) - frozenset(spare[:left_out]) for left_out in range(len(spare) + 1)]
    drawn = (_aligned(titles, rows, keep) for keep in kept)
    return next((one for one in drawn if _width(one) <= room), _aligned(titles, rows, kept[-1]))


def _aligned(
    titles: Sequence[str], rows: Sequence[Sequence[Text | str]], keep: Collection[str]
) -> Table:
    shown = [place for place, title in enumerate(titles) if title in keep]
    found = Table(box=None, padding=(0, 3, 0, 0), header_style="bold", pad_edge=False)
    for place in shown:
        right = titles[place] in _NUMBERS
        found.add_column(titles[place], no_wrap=True, justify="right" if right else "left")
    for row in rows:
        found.add_row(*(row[place] for place in shown))
    return found


def _width(drawn: Table) -> int:
    wide = Console(width=10_000)
    return wide.measure(drawn).maximum


def type_styles(types: Iterable[str]) -> dict[str, str]:
    """Return a colour for each GPU type, the same whenever the types are the same."""
    return {name: _PALETTE[place % len(_PALETTE)] for place, name in enumerate(sorted(set(types)))}


def table(lines: Sequence[Line]) -> Table:
    """Return the lines as an aligned table."""
    styles = type_styles(name for line in lines for one in line.branches for name in one.by_type)
    closed = any(one.use.closed for line in lines for one in line.branches)
    uses = [total(one.use for one in line.branches) for line in lines]
    titles = ["DOMAIN", "NODES", "EMPTY", "FREE/GPUS", "USED", "CLOSED"]
    titles += ["FREE BY TYPE", "FREE BY CLASS"]
    rows = [
        (
            _domain(line),
            str(sum(one.nodes for one in line.branches)),
            str(sum(one.empty for one in line.branches)),
            f"{use.free}/{use.gpus}",
            bar(use),
            str(use.closed) if use.closed else "-",
            _types(line, styles),
            _classes(line),
        )
        for line, use in zip(lines, uses, strict=True)
    ]
    if not closed:
        titles.remove("CLOSED")
        rows = [(*row[:5], *row[6:]) for row in rows]  # type: ignore[misc]  # one cell less in each
    return columns(titles, rows, ("FREE BY CLASS", "USED", "FREE BY TYPE", "EMPTY", "CLOSED"))


def _domain(line: Line) -> Text:
    text = Text()
    for goes_on in line.rails[1:]:
        text.append("│ " if goes_on else "  ", "dim")
    if line.depth:
        text.append("└ " if line.last else "├ ", "dim")
    branch = line.one
    if branch is not None:
        level = "" if branch.level in (ALL, NODE) else f"{branch.level} "
        text.append(level, "dim")
        text.append(clean(branch.name), "bold" if branch.level == ALL else "")
        return text
    first, last = line.branches[0], line.branches[-1]
    text.append(f"{len(line.branches)} {first.level}", "bold")
    text.append(f" {clean(first.name)} … {clean(last.name)}", "dim")
    return text


def bar(use: Use, width: int = BAR) -> Text:
    """Return the share in use; what is neither free nor empty shows at least one cell."""
    text = Text()
    if not use.gpus:
        return text
    held = _cells(use.held, use.gpus, width)
    closed = min(width - held, _cells(use.closed, use.gpus, width))
    text.append(USED * held, "blue")
    text.append(CLOSED * closed, "red")
    text.append(FREE * (width - held - closed), "dim")
    return text


def _cells(part: int, whole: int, width: int) -> int:
    if not part:
        return 0
    most = width if part == whole else width - 1
    return max(1, min(most, round(width * part / whole)))


def _types(line: Line, styles: dict[str, str]) -> Text:
    text = Text()
    for name, use in sums(one.by_type for one in line.branches).items():
        text.append(", " if text else "")
        text.append(clean(name) or "?", styles[name])
        text.append(f" {use.free}/{use.gpus}")
        text.append(_spread([one.by_type.get(name, Use()).free for one in line.branches]), "dim")
    return text


def _spread(free: Sequence[int]) -> str:
    """Return what one of several has: exactly, or from the least to the most."""
    if len(free) == 1:
        return ""
    least, most = min(free), max(free)
    return f" ({least} each)" if least == most else f" ({least}–{most})"


def _classes(line: Line) -> Text:
    text = Text()
    for name, use in classes_of(line.branches).items():
        text.append(", " if text else "")
        text.append(name, CLASS_STYLES.get(name, ""))
        text.append(f" {use.free}/{use.gpus}")
    return text


def totals(root: Branch) -> str:
    """Return the fleet in one sentence."""
    use = root.use
    parts = [f"{use.free} free", f"{use.held} held"]
    parts += [f"{use.closed} closed"] if use.closed else []
    share = root.scattered / use.free if use.free else 0.0
    return (
        f"{root.name}: {root.nodes} nodes, {use.gpus} GPUs ({', '.join(parts)}); "
        f"{root.empty} nodes empty; {root.scattered} free GPUs ({share:.0%}) on nodes partly held"
    )
