"""Where the instances of a plan go, drawn as a tree: a letter for each GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from heteroscale.words import Role
from heteroscale_cli.placing import tree
from heteroscale_cli.placing.folding import KEPT
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_cli.placing.planning import Planned, taken
from heteroscale_cli.placing.terminal import CLASS_STYLES, CLOSED, FREE, USED, columns, type_styles
from heteroscale_cli.placing.tree import ALL, NODE, Branch
from heteroscale_cli.text import clean

LETTERS = {
    Role.PREFILL: "P",
    Role.DECODE: "D",
    Role.AGGREGATED: "G",
    Role.ATTENTION: "A",
    Role.FFN: "F",
}
_STYLES = {
    Role.PREFILL: "bold cyan",
    Role.DECODE: "bold green",
    Role.AGGREGATED: "bold cyan",
    Role.ATTENTION: "bold cyan",
    Role.FFN: "bold magenta",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the drawing looks at."""

    new: Mapping[str, Mapping[int, Role]]
    """Role by GPU, by agent."""
    ranks: Mapping[str, Counter[str]]
    """What is new on each agent, in words, to how many."""
    before: Mapping[tuple[str, ...], Branch]
    """Each domain as it was, by path."""
    styles: Mapping[str, str]


def draw(planned: Planned, fleet: str) -> Table:
    """Return the tree of the domains in which something new stands."""
    after = taken(planned.before, planned.spots)
    root = tree.grow(Inventory(fleet, after))
    before = {one.path: one for one in tree.grow(Inventory(fleet, planned.before)).walk()}
    new: dict[str, dict[int, Role]] = {}
    ranks: dict[str, Counter[str]] = {}
    for spot in planned.spots:
        word = spot.role if len(spot.ranks) == 1 else f"{spot.role} rank"
        for rank in spot.ranks:
            gpus = dict.fromkeys(rank.gpu_indices, spot.role)
            new.setdefault(rank.agent_id, {}).update(gpus)
            ranks.setdefault(rank.agent_id, Counter())[word] += 1
    seen = _Seen(new, ranks, before, type_styles(root.by_type))
    titles = ("PLACE", "GPUS", "NEW", "CLASS", "FREE")
    return columns(titles, list(_rows(root, seen, "", "")), ("CLASS", "FREE", "NEW"))


def legend(planned: Planned) -> Text:
    """Return what the letters and signs mean."""
    text = Text()
    for role in {spot.role: None for spot in planned.spots}:
        text.append(LETTERS[role], _STYLES[role])
        text.append(f" new {role}   ")
    text.append(USED, "dim")
    text.append(" held   ")
    text.append(FREE, "dim")
    text.append(" free   ")
    text.append(CLOSED, "red")
    text.append(" closed   one sign for each GPU")
    return text


def _rows(branch: Branch, seen: _Seen, lead: str, guide: str) -> Iterator[tuple[Text | str, ...]]:
    yield _domain(branch, seen, lead + guide)
    onward = lead + {"├ ": "│ ", "└ ": "  "}.get(guide, "")
    touched = [child for child in branch.children if _touched(child, seen)]
    parts: list[Sequence[Branch]] = []
    leaves = [child for child in touched if child.level == NODE]
    parts.extend(_alike(leaves, seen))
    parts.extend([child] for child in touched if child.level != NODE)
    for place, part in enumerate(parts):
        inner = "└ " if place == len(parts) - 1 else "├ "
        if part[0].level == NODE:
            yield _node(part, seen, onward + inner)
        else:
            yield from _rows(part[0], seen, onward, inner)


def _touched(branch: Branch, seen: _Seen) -> bool:
    return any(one.node is not None and one.node.view.agent_id in seen.new for one in branch.walk())


def _alike(leaves: Sequence[Branch], seen: _Seen) -> list[Sequence[Branch]]:
    groups: dict[tuple[str, str], list[Branch]] = {}
    for leaf in leaves:
        groups.setdefault((",".join(leaf.by_type), _cells(leaf, seen).plain), []).append(leaf)
    found: list[Sequence[Branch]] = []
    for group in groups.values():
        found.extend([group] if len(group) > KEPT else [[one] for one in group])
    return found


def _domain(branch: Branch, seen: _Seen, lead: str) -> tuple[Text | str, ...]:
    text = Text(lead, "dim")
    text.append("" if branch.level == ALL else f"{branch.level} ", "dim")
    text.append(clean(branch.name), "bold")
    was = seen.before[branch.path].use.free
    free = Text(f"{was} → {branch.use.free}" if branch.level != ALL else f"{branch.use.free}")
    return text, _by_type(branch, seen), "", _classes(branch), free


def _by_type(branch: Branch, seen: _Seen) -> Text:
    text = Text()
    for name, use in branch.by_type.items():
        text.append(" " if text else "")
        text.append(clean(name) or "?", seen.styles[name])
        text.append(f" {use.gpus}", "dim")
    return text


def _classes(branch: Branch) -> Text:
    text = Text()
    for name in branch.by_class:
        text.append("/" if text else "")
        text.append(name, CLASS_STYLES.get(name, ""))
    return text


def _node(group: Sequence[Branch], seen: _Seen, lead: str) -> tuple[Text | str, ...]:
    first = group[0]
    text = Text(lead, "dim")
    if len(group) == 1:
        text.append(clean(first.name))
    else:
        text.append(f"{len(group)} nodes", "bold")
        text.append(f" {clean(first.name)} … {clean(group[-1].name)}", "dim")
    cells = _cells(first, seen)
    for name in first.by_type:
        cells.append(" ")
        cells.append(clean(name) or "?", seen.styles[name])
    was = sum(seen.before[one.path].use.free for one in group)
    left = sum(one.use.free for one in group)
    return text, cells, _news(group, seen), _classes(first), f"{was} → {left}"


def _news(group: Sequence[Branch], seen: _Seen) -> str:
    counts: Counter[str] = Counter()
    for one in group:
        if one.node is not None:
            counts.update(seen.ranks[one.node.view.agent_id])
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _cells(leaf: Branch, seen: _Seen) -> Text:
    """Return one sign for each GPU of a node."""
    text, node = Text(), leaf.node
    if node is None:
        return text
    new, free = seen.new.get(node.view.agent_id, {}), set(node.free)
    for index in sorted(node.view.gpu_types):
        if (role := new.get(index)) is not None:
            text.append(LETTERS[role], _STYLES[role])
        elif index in free:
            text.append(FREE, "dim")
        else:
            held = index in node.held
            text.append(USED if held else CLOSED, "dim" if held else "red")
    return text
