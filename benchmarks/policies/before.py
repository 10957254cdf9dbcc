"""The simulator and the policy of another revision, from the repository's own history.

They run in a process of their own, with that revision's packages alone on the path, on the same service,
fleet and traffic. Where its service document lacks fields of ours, those are left out: that revision
names them itself ("unknown field"), and what is left out is told.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REVISION = "99cf492"
"""The last commit before the policy engine: one law, no reserve, no floors."""
ROOT = Path(__file__).parents[2]
START = "import sys; from heteroscale_simulator.command import run; sys.exit(run(sys.argv[1:]))"
_ONE_AT_A_TIME = threading.Lock()
_UNKNOWN = re.compile(r"^\S+: (?P<path>[\w.+-]+): unknown field(?:;.*)?$", re.MULTILINE)


class NoHistoryError(Exception):
    """The revision is not here; the text says why."""


@dataclass(frozen=True, slots=True)
class Past:
    """A revision's packages, unpacked."""

    revision: str
    folder: Path

    @property
    def path(self) -> str:
        """The ``PYTHONPATH`` on which its packages come before ours."""
        return ":".join(sorted({str(one.parent) for one in self.folder.glob("*/heteroscale*/")}))

    def command(self, words: Sequence[str]) -> list[str]:
        """Return a command line of its simulator."""
        return [sys.executable, "-c", START, *words]


def unpack(revision: str, place: Path, root: Path = ROOT) -> Past:
    """Unpack a revision below ``place``, unless it is there already.

    Raises:
        NoHistoryError: this is no repository, or its history does not reach so far.

    """
    folder = place / f"revision-{revision}"
    with _ONE_AT_A_TIME:
        if not folder.is_dir():
            _unpack(revision, folder, root)
    return Past(revision, folder)


def _unpack(revision: str, folder: Path, root: Path) -> None:
    command = ["git", "-C", str(root), "archive", "--format=tar", revision]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise NoHistoryError("no git here") from None
    if done.returncode:
        raise NoHistoryError(done.stderr.decode().strip().splitlines()[-1])
    part = folder.with_suffix(".part")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(part, filter="data")
    part.rename(folder)


def unknown_fields(told: str) -> list[str]:
    """Return the paths that a refusal calls unknown, as spec.policy.forecast."""
    return [found["path"] for found in _UNKNOWN.finditer(told)]


def without(service: str, paths: Sequence[str]) -> str:
    """Return a service's text without the fields at ``paths``; what they held goes with them."""
    data = yaml.safe_load(service)
    for path in paths:
        *parents, last = path.split(".")
        inner: Any = data
        for name in parents:
            inner = inner.get(name, {})
        inner.pop(last, None)
    return yaml.safe_dump(data, sort_keys=False)
