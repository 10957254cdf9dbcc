"""Releases of this tree under version numbers of our choice, and the installer to install them with.

Nothing is fetched: pip installs the wheel alone, and what it needs is lent from this environment.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from tests.packaging import ground

INSTALLER = ground.ROOT / "deploy" / "install.sh"
_VERSION = Path("proto/heteroscale/__init__.py")


def build(folder: Path, *versions: str) -> list[Path]:
    """Return a wheel of this tree for each version."""
    source = ground.copy_tree(folder / "source")
    told = (source / _VERSION).read_text()
    wheels = []
    for version in versions:
        changed = told.replace('__version__ = "0.1.0"', f'__version__ = "{version}"')
        assert version == "0.1.0" or changed != told
        (source / _VERSION).write_text(changed)
        wheels.append(ground.build(source, folder / version, "--wheel"))
    return wheels


def lend(folder: Path, extras: Iterable[str] = ("",)) -> Path:
    """Return a folder with what a release needs besides itself; it goes on PYTHONPATH."""
    folder.mkdir()
    for name in ground.closure(set().union(*(ground.declared(extra) for extra in extras))):
        ground.lend(distribution(name), folder)
    return folder


class Host:
    """One prefix on this machine, and the installer run on it."""

    def __init__(self, prefix: Path, lent: Path) -> None:
        self.prefix, self.lent = prefix, lent

    def install(self, *words: str | Path, status: int = 0) -> str:
        """Run the installer; return all that it said."""
        done = subprocess.run(
            [str(INSTALLER), *map(str, words), "--prefix", str(self.prefix)],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PYTHONPATH": str(self.lent),
            },
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, said
        return said

    @property
    def current(self) -> str:
        """The release in use."""
        return (self.prefix / "current").readlink().name

    def run(self, name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the release in use."""
        return subprocess.run(
            [str(self.prefix / "current/bin" / name), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(self.lent)},
        )
