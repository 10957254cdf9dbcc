"""What was measured already: the same command goes on where it was. Other code is measured anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "benchmarks/placement",
    "coordinator/heteroscale_coordinator/core/placement",
    "coordinator/heteroscale_coordinator/core/topology.py",
    "simulator/heteroscale_simulator/fleet",
    "simulator/heteroscale_simulator/inventory",
)
"""What figures come from."""
SOLVER = ("benchmarks/placement/solver.py",)
"""What the best comes from, beside the problem."""
Found = dict[str, Any]


class Kept:
    """A folder of figures, a file each; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def get(
        self, key: str, inputs: str, make: Callable[[], Found], code: tuple[str, ...] = CODE
    ) -> Found:
        """Return the figures called ``key`` of these inputs and code, measured if they are not there."""
        if self._folder is None:
            return make()
        file = self._folder / f"{key}.json"
        stamp = hashlib.sha256(f"{_digest(code)}\n{inputs}".encode()).hexdigest()
        if file.exists():
            had: Found = json.loads(file.read_text("utf-8"))
            if had.get("stamp") == stamp:
                return had
        found = {**make(), "stamp": stamp}
        file.write_text(json.dumps(found) + "\n", "utf-8")
        return found


@cache
def _digest(code: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    paths = [ROOT / part for part in code]
    for path in sorted(
        p for part in paths for p in ([part] if part.is_file() else part.rglob("*.py"))
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()
