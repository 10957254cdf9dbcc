"""Run inside an environment: import every module of the packages named; print what came of it.

A name after ``-`` is a module to leave out: it comes with another extra.

Only the standard library, since the environment may have nothing else.
"""

import importlib
import json
import pkgutil
import sys


def walk(name: str) -> dict[str, str]:
    """Import a package and all below it; return each module's file."""
    package = importlib.import_module(name)
    found = {name: package.__file__ or ""}
    for item in pkgutil.walk_packages(package.__path__, f"{name}.", onerror=None):
        if f"-{item.name}" in sys.argv:
            continue
        module = importlib.import_module(item.name)
        found[item.name] = module.__file__ or ""
    return found


roots = [word for word in sys.argv[1:] if not word.startswith("-")]
json.dump({name: file for root in roots for name, file in walk(root).items()}, sys.stdout)
