"""Thousands of domains on a page: siblings that are alike become one line, opened where asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from heteroscale_cli.placing.tree import LEVELS, NODE, Branch

KEPT = 3
"""So many siblings that are alike are still shown one by one."""
MOST = 12
"""Lines below one parent; with more, only kind and fullness tell siblings apart, not size."""

PAGE = 70
"""Lines that a reader takes in, unless a level is asked for."""


@dataclass(frozen=True, slots=True)
class Line:
    """One domain, or several that are alike."""

    depth: int
    branches: tuple[Branch, ...]
    last: bool = False
    """The last below its parent."""
    rails: tuple[bool, ...] = ()
    """For each depth above: whether more follows there, so that its rail goes on."""

    @property
    def one(self) -> Branch | None:
        """The domain, where it is one only."""
        return self.branches[0] if len(self.branches) == 1 else None


def fold(root: Branch, deepest: str, opened: Collection[Branch] = ()) -> list[Line]:
    """Return the lines of a tree down to level ``deepest``.

    Children of what is ``opened`` are shown one by one, nodes too; so is the way to it.
    """
    shown = {id(branch) for branch in opened}
    onward = {id(one) for one in root.walk() if any(id(below) in shown for below in one.walk())}
    fold_ = _Fold(LEVELS.index(deepest), shown, onward)
    return list(fold_.lines((root,), 0, (), last=True))


def kind_of(branch: Branch) -> str:
    """Return `full`, `empty` (every GPU free), or `partly`: what a reader looks for first."""
    use = branch.use
    return "full" if not use.free else "empty" if use.free == use.gpus else "partly"


@dataclass(frozen=True, slots=True)
class _Fold:
    deepest: int
    opened: Collection[int]
    onward: Collection[int]
    """What has something opened below it, or is it."""

    def lines(
        self, group: tuple[Branch, ...], depth: int, rails: tuple[bool, ...], *, last: bool
    ) -> Iterator[Line]:
        yield Line(depth, group, last, rails)
        below = self._groups(group)
        for place, one in enumerate(below):
            at_end = place == len(below) - 1
            yield from self.lines(one, depth + 1, (*rails, not last), last=at_end)

    def _groups(self, group: tuple[Branch, ...]) -> list[tuple[Branch, ...]]:
        children = [child for branch in group for child in branch.children]
        if len(group) == 1 and id(group[0]) in self.opened:
            return [(child,) for child in children]
        children = [child for child in children if self._shows(child)]
        fine = _alike(children, self.onward, exact=True)
        return fine if len(fine) <= MOST else _alike(children, self.onward, exact=False)

    def _shows(self, child: Branch) -> bool:
        return id(child) in self.onward or LEVELS.index(child.level) <= self.deepest


def _alike(
    children: Sequence[Branch], apart: Collection[int], *, exact: bool
) -> list[tuple[Branch, ...]]:
    groups: dict[object, list[Branch]] = {}
    for child in children:
        alone = id(child) in apart
        groups.setdefault(id(child) if alone else _signature(child, exact=exact), []).append(child)
    found: list[tuple[Branch, ...]] = []
    for group in groups.values():
        if exact and len(group) <= KEPT:
            found.extend((child,) for child in group)
        else:
            found.append(tuple(group))
    return found


def _signature(branch: Branch, *, exact: bool) -> object:
    if not exact:
        return branch.level, tuple(branch.by_type), tuple(branch.by_class), kind_of(branch)
    sizes = tuple((kind, use.gpus) for kind, use in branch.by_type.items())
    closed = branch.use.closed > 0
    return branch.level, branch.nodes, sizes, tuple(branch.by_class), kind_of(branch), closed


def deepest_of(root: Branch) -> str:
    """Return the level to which a tree is shown unless told otherwise: the deepest that fits a page.

    Nodes of a small fleet, S1 of most; of the largest and most motley ones less.
    """
    few_nodes = 16
    if root.nodes <= few_nodes:
        return NODE
    there = {branch.level for branch in root.walk()}
    levels = [level for level in reversed(LEVELS[: LEVELS.index("s1") + 1]) if level in there]
    fits = (level for level in levels if len(fold(root, level)) <= PAGE)
    return next(fits, levels[-1] if levels else NODE)
