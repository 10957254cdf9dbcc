"""Keeps out of a process what a library would load only because it happens to be installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

_METADATA = "importlib.metadata"


def load_without(module: str, *unwanted: str) -> None:
    """Import ``module`` as if ``unwanted`` were not installed; whoever wants them later gets them.

    For optional dependencies only: where the import fails without them, it fails here too.
    """
    # None is Python's own way to say that a module is not to be found.
    with _in_place_of(dict.fromkeys(unwanted)):
        import_module(module)


def load_without_plugins(module: str) -> None:
    """Import ``module`` as if no installed distribution offered plugins to it.

    What reads their metadata, with its zip files and e-mail headers, is then not loaded either. A
    process that has loaded it already is left alone.
    """
    nothing = ModuleType(_METADATA)
    nothing.entry_points = lambda **_: ()  # type: ignore[attr-defined]
    with _in_place_of({_METADATA: nothing}):
        import_module(module)


@contextmanager
def _in_place_of(others: dict[str, ModuleType | None]) -> Iterator[None]:
    """Show ``others`` to imports inside, by name, but not in place of what is loaded already."""
    fresh = {name: other for name, other in others.items() if name not in sys.modules}
    sys.modules.update(fresh)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in fresh:
            sys.modules.pop(name, None)
