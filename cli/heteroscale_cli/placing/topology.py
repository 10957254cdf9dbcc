"""What ``heteroscale topology`` does: the tree to a terminal, as JSON, as a picture."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.text import Text

from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import usage
from heteroscale_cli.output import print_note, print_text
from heteroscale_cli.placing import folding, inventory, subclusters, svg, terminal, tree
from heteroscale_cli.placing.inventory import ClassChange
from heteroscale_cli.placing.tree import LEVELS, NODE, Branch, Use
from heteroscale_cli.text import age

SHOWN_CHANGES = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown."""

    level: str = ""
    """Deepest level; empty: S1, or nodes of a small fleet."""
    opened: tuple[str, ...] = ()
    svg: Path | None = None
    as_json: bool = False


def show(connection: Connection, fleet: str, wish: Wish) -> None:
    """Print or draw the tree of ``fleet``.

    Raises:
        CliError: a level or a domain is not known, or the fleet cannot be read.

    """
    check_level(wish.level)
    with terminal.busy("Reading the fleet …"):
        known = inventory.read(fleet, connection)
        root = tree.grow(known)
    opened = [_opened(root, name) for name in wish.opened]
    deepest = wish.level or folding.deepest_of(root)
    notes = (*tree.unnamed(known), *_tainted(known), *subclusters.notes(known))
    if wish.svg is not None:
        write(wish.svg, root, f"Topology of {root.name}")
    if wish.as_json:
        top = opened or [root]
        data = [plain(one, NODE if opened and not wish.level else deepest) for one in top]
        head = {**_head(root, notes), "class_changes": list(map(_change, known.changes))}
        print_text(json.dumps({**head, "domains": data}, indent=1))
        return
    if wish.svg is not None:
        print_text(f"{wish.svg}: {terminal.totals(root)}")
        return
    terminal.show(terminal.table(folding.fold(root, deepest, opened)))
    print_text("")
    print_text(terminal.totals(root))
    if not wish.level and deepest != NODE and LEVELS.index(deepest) < LEVELS.index("s1"):
        print_note(f"It ends at {deepest} to fit a page: see --level s1, and --open NAME for one.")
    _print_changes(known.changes)
    for note in notes:
        print_note(f"note: {note}")


def _print_changes(changes: Sequence[ClassChange]) -> None:
    """Say the last changes of RDMA class, the newest first."""
    if not changes:
        return
    shown = changes[: -SHOWN_CHANGES - 1 : -1]
    more = f", the last {len(shown)} of {len(changes)}" if len(changes) > len(shown) else ""
    print_text(f"\nChanges of RDMA class{more}:")
    now = time.time()
    for one in shown:
        nodes = f"{one.nodes} node{'s' * (one.nodes != 1)}"
        line = f"  {age(now - one.at)} ago  {one.domain}: {one.before} → {one.after}, {nodes}"
        terminal.show(Text(line + (f": {one.reason}" if one.reason else "")))


def _change(one: ClassChange) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(one.at, UTC).isoformat(),
        "domain": one.domain,
        "before": one.before,
        "after": one.after,
        "nodes": one.nodes,
        "reason": one.reason,
    }


def _tainted(known: inventory.Inventory) -> tuple[str, ...]:
    """Say which taints nodes carry; a free GPU there is free for those alone that tolerate them."""
    found = Counter(str(taint) for node in known.nodes for taint in node.view.taints)
    return tuple(
        f"{nodes} of {len(known.nodes)} nodes carry the taint {taint}"
        for taint, nodes in sorted(found.items())
    )


def check_level(level: str) -> None:
    """Refuse a level that there is not; CliError."""
    if level and level not in LEVELS:
        raise usage(f"--level {level}: no such level; one of {', '.join(LEVELS)}")


def _opened(root: Branch, name: str) -> Branch:
    found = tree.find(root, name)
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join("/".join(one.path) for one in found[:3])
        raise usage(f"--open {name}: {len(found)} domains are named so; say which: {paths}")
    names = {one.name: None for one in root.walk()}
    near = get_close_matches(name, names, 3) or list(names)[1:4]
    raise usage(f"--open {name}: no such domain; there are {', '.join(near)}, …")


def write(file: Path, root: Branch, title: str, news: svg.News | None = None) -> None:
    """Draw a tree into a file; CliError: it cannot be written."""
    try:
        file.write_text(svg.draw(root, title, news), encoding="utf-8")
    except OSError as error:
        raise usage(f"--svg {file}: {error.strerror or error}") from error


def _head(root: Branch, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "fleet": root.name,
        **_figures(root),
        "scattered": root.scattered,
        "notes": list(notes),
    }


def plain(branch: Branch, deepest: str) -> dict[str, Any]:
    """Return a domain as plain data, with what is below it down to a level."""
    data: dict[str, Any] = {"level": branch.level, "name": branch.name, "path": list(branch.path)}
    data |= _figures(branch)
    if branch.node is not None:
        view = branch.node.view
        data["agent_id"] = view.agent_id
        data["free_gpus"] = list(branch.node.free)
        data["held_gpus"] = sorted(branch.node.held)
        for name, near in (("numa_nodes", view.neighbourhoods), ("nvlink_groups", view.links)):
            if near:
                data[name] = _by_home(near, set(branch.node.free))
        if view.taints:
            data["taints"] = [str(taint) for taint in view.taints]
        if not view.usable:
            data["closed_because"] = view.why_not
    limit = LEVELS.index(deepest)
    below = [plain(c, deepest) for c in branch.children if LEVELS.index(c.level) <= limit]
    if below:
        data["domains"] = below
    return data


def _by_home(near: Mapping[int, int], free: Container[int]) -> dict[str, dict[str, list[int]]]:
    """Return each neighbourhood's GPUs, and which are free; GPUs without one are left out."""
    found: dict[str, dict[str, list[int]]] = {}
    for index, home in sorted(near.items(), key=lambda one: (one[1], one[0])):
        here = found.setdefault(str(home), {"gpus": [], "free": []})
        here["gpus"].append(index)
        if index in free:
            here["free"].append(index)
    return found


def _figures(branch: Branch) -> dict[str, Any]:
    return {
        "nodes": branch.nodes,
        "empty_nodes": branch.empty,
        "gpus": _use(branch.use),
        "by_type": {name: _use(use) for name, use in branch.by_type.items()},
        "by_class": {name: _use(use) for name, use in branch.by_class.items()},
    }


def _use(use: Use) -> dict[str, int]:
    return {"total": use.gpus, "free": use.free, "held": use.held, "closed": use.closed}
