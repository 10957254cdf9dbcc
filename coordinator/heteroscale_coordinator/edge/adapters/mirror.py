"""A cluster as it was last seen, kept by whole looks and by what a watch tells in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from heteroscale_scheduler_adapters.port import Change, Node, Phase, Running, World

_T = TypeVar("_T")
OVER = (Phase.ENDED, Phase.FAILED)
_FEW = 2


class Mirror:
    """See the module."""

    def __init__(self) -> None:
        self.world = World({}, {})
        self.nodes: dict[str, Node] = {}
        self.running: dict[str, Running] = {}
        self.revision = ""
        self.notes: tuple[str, ...] = ()
        self._doubted_since: float | None = None

    def take(self, world: World) -> None:
        """Take a whole look over."""
        self.world, self.revision, self.notes = world, world.revision, world.notes
        self.nodes, self.running = dict(world.nodes), dict(world.running)

    def change(self, change: Change) -> None:
        """Take over what became different."""
        _merge(self.nodes, change.nodes)
        _merge(self.running, change.running)
        self.revision = change.revision or self.revision
        if change.notes is not None:
            self.notes = change.notes

    def doubt(self, world: World, now: float, patience: float) -> str:
        """Return why a look is not believed: most of what was there vanished in it, all at once.

        A cluster that has just restarted may tell of nothing. When it is so for ``patience`` seconds it
        is true.
        """
        alive = {key for key, one in self.running.items() if one.phase not in OVER}
        for what, before, after in (
            ("nodes", self.nodes.keys(), world.nodes.keys()),
            ("instances", alive, world.running.keys()),
        ):
            missing = len(before - after)
            if len(before) >= _FEW and missing > len(before) / 2:
                if self._doubted_since is None:
                    self._doubted_since = now
                if now - self._doubted_since < patience:
                    return f"{missing} of {len(before)} {what} vanished at once: not believed yet"
                return ""
        self._doubted_since = None
        return ""


def _merge(table: dict[str, _T], changed: Mapping[str, _T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
