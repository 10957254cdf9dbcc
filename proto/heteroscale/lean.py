"""Keeps out of a process what a library would load only because it happens to be installed."""

from __future__ import annotations

import sys
from importlib import import_module


def load_without(module: str, *unwanted: str) -> None:
    """Import ``module`` as if ``unwanted`` were not installed; whoever wants them later gets them.

    For optional dependencies only: where the import fails without them, it fails here too.
    """
    hidden = [name for name in unwanted if name not in sys.modules]
    # None is Python's own way to say that a module is not to be found.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import_module(module)
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
