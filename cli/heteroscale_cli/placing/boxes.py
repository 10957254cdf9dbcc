"""Where each domain and node lies in the picture: boxes in boxes, in the order of their names.

Nodes stand in a grid; domains flow in rows like words on a page, as wide as makes the whole about as
high as it is wide. Pure: lengths in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from heteroscale_cli.placing.tree import NODE, Branch

ASPECT = 1.6
"""Width to height that is aimed at."""
GAP = 2.0
"""Between nodes."""
_SIZES = ((80, 30.0), (400, 20.0), (2000, 14.0))
_SMALLEST = 10.0
_FACTORS = (1.0, 0.8, 0.9, 1.1, 1.25, 1.45, 1.7)
"""Widths that are tried for rows, to that of a perfect fit."""


@dataclass(frozen=True, slots=True)
class Box:
    """A branch with its place, from the upper left corner of its parent."""

    branch: Branch
    x: float
    y: float
    width: float
    height: float
    children: tuple[Box, ...] = ()

    def moved(self, x: float, y: float) -> Box:
        """Return the box at another place."""
        return Box(self.branch, x, y, self.width, self.height, self.children)

    def walk(self, x: float = 0.0, y: float = 0.0) -> Iterator[tuple[Box, float, float]]:
        """Yield every box with its place in the whole, outer ones first."""
        here = (x + self.x, y + self.y)
        yield self, *here
        for child in self.children:
            yield from child.walk(*here)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths that follow from how many nodes there are."""

    cell: float

    @property
    def pad(self) -> float:
        """Around what is in a domain."""
        return max(4.0, self.cell / 3)

    @property
    def title(self) -> float:
        """Height of a domain's heading."""
        return max(11.0, self.cell * 0.6)


def sizes_for(nodes: int) -> Sizes:
    """Return the lengths for a picture of so many nodes."""
    return Sizes(next((size for most, size in _SIZES if nodes <= most), _SMALLEST))


def lay_out(branch: Branch, sizes: Sizes) -> Box:
    """Return the box of a branch, with all that is in it."""
    if branch.level == NODE:
        return Box(branch, 0.0, 0.0, sizes.cell, sizes.cell)
    leaves = [lay_out(child, sizes) for child in branch.children if child.level == NODE]
    domains = [lay_out(child, sizes) for child in branch.children if child.level != NODE]
    # Nodes that hang here themselves come first, as one block.
    parts = [_grid(branch, leaves, sizes)] if leaves else []
    if not domains:
        inner = parts[0] if parts else Box(branch, 0.0, 0.0, sizes.cell, sizes.cell)
    else:
        inner = _flow(branch, [*parts, *domains], sizes)
    children = tuple(
        child.moved(child.x + sizes.pad, child.y + sizes.title + sizes.pad)
        for child in inner.children
    )
    width, height = inner.width + 2 * sizes.pad, inner.height + 2 * sizes.pad + sizes.title
    return Box(branch, 0.0, 0.0, width, height, children)


def _grid(branch: Branch, cells: Sequence[Box], sizes: Sizes) -> Box:
    step = sizes.cell + GAP
    columns = max(1, ceil(sqrt(len(cells) * ASPECT)))
    rows = ceil(len(cells) / columns)
    placed = tuple(
        cell.moved((number % columns) * step, (number // columns) * step)
        for number, cell in enumerate(cells)
    )
    return Box(branch, 0.0, 0.0, columns * step - GAP, rows * step - GAP, placed)


def _flow(branch: Branch, parts: Sequence[Box], sizes: Sizes) -> Box:
    """Return the parts in rows, as wide as wastes least."""
    area = sum((part.width + sizes.pad) * (part.height + sizes.pad) for part in parts)
    widest = max(part.width for part in parts)
    tried = [
        _rows(branch, parts, sizes.pad, max(widest, sqrt(area * ASPECT) * factor))
        for factor in _FACTORS
    ]
    return min(tried, key=_waste)


def _waste(box: Box) -> float:
    """Return its area, and more the further it is from the proportion aimed at."""
    off = box.width / box.height / ASPECT
    return box.width * box.height * sqrt(max(off, 1 / off))


def _rows(branch: Branch, parts: Sequence[Box], gap: float, limit: float) -> Box:
    placed: list[Box] = []
    x = y = row = width = 0.0
    for part in parts:
        if x and x + part.width > limit:
            x, y, row = 0.0, y + row + gap, 0.0
        placed.extend(_flat(part, branch, x, y))
        x, row = x + part.width + gap, max(row, part.height)
        width = max(width, x - gap)
    return Box(branch, 0.0, 0.0, width, y + row, tuple(placed))


def _flat(part: Box, owner: Branch, x: float, y: float) -> list[Box]:
    """Return a part at its place; a block of the owner's own nodes is taken out of its box."""
    if part.branch is not owner:
        return [part.moved(x, y)]
    return [cell.moved(cell.x + x, cell.y + y) for cell in part.children]
