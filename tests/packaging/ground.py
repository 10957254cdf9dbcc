"""Builds the distribution from a copy of the tree, and makes small environments to try it in.

Nothing is fetched: the backend is this environment's own, and an environment sees exactly those of
our installed libraries that it is given.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import venv
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path, PurePath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "heteroscale": "proto",
    "heteroscale_agent": "agent",
    "heteroscale_coordinator": "coordinator",
    "heteroscale_scheduler_adapters": "scheduler_adapters",
    "heteroscale_simulator": "simulator",
    "heteroscale_advisor": "advisor",
    "heteroscale_workbench": "workbench",
    "heteroscale_cli": "cli",
}
"""Import package to the folder it stands in."""

JUNK = (
    *("shared/notes.md", ".venv/lib/x.py", ".mypy_cache/x.json", ".pytest_cache/x", ".ci/run"),
    *("agent/heteroscale_agent/__pycache__/x.pyc", ".hypothesis/x", "demo-run/x.log"),
    *("demo-report.html", "out.json", "core.1234", "notes.txt"),
)
"""What lies about in a tree that is worked in, and must not be shipped."""


def call(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a command; return what it printed, or fail with all of it."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def project() -> dict[str, Any]:
    """Return the `[project]` table."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    return table


def copy_tree(target: Path) -> Path:
    """Copy what belongs to the project, as a checkout or an unpacked sdist has it, and add junk.

    A copy, because a build generates code: done here, it would write under the feet of other tests.
    """
    for name in _tree():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in JUNK:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("not ours\n")
    return target


def _tree() -> Iterator[str]:
    git = shutil.which("git")
    if (ROOT / ".git").exists() and git:
        listed = call(git, "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT)
        yield from filter(None, listed.split("\0"))
        return
    for folder in (*PACKAGES.values(), "tests", "docs", "examples", "benchmarks", "deploy"):
        for path in (ROOT / folder).rglob("*"):
            if "__pycache__" not in path.parts and "_pb2" not in path.name:
                yield str(path.relative_to(ROOT))
    yield from (path.name for path in ROOT.iterdir() if path.is_file())


def build(source: Path, out: Path, *kinds: str) -> Path:
    """Build `source` with `python -m build`; return the one wheel or sdist that came of it."""
    call(sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", out, source)
    (made,) = out.iterdir()
    return made


def build_editable(source: Path, out: Path) -> Path:
    """Build the wheel that an editable install installs."""
    out.mkdir()
    code = "import sys; from hatchling.build import build_editable as b; print(b(sys.argv[1]))"
    call(sys.executable, "-c", code, out, cwd=source)
    (made,) = out.iterdir()
    return made


class Environment:
    """A fresh virtual environment with our wheel, and with libraries lent from this one."""

    def __init__(self, folder: Path, wheel: Path, libraries: Iterable[str]) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.folder = folder
        flags = (
            "--no-deps",
            "--no-index",
            "--no-compile",
            "--quiet",
            "--disable-pip-version-check",
        )
        call(sys.executable, "-m", "pip", "--python", self.python, "install", *flags, wheel)
        lent = folder / "lent"
        lent.mkdir()
        for name in libraries:
            lend(distribution(name), lent)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "lent.pth").write_text(f"{lent}\n")

    def run(self, code: str, *words: str) -> Any:
        """Run code that prints JSON, away from any sources; return what it printed."""
        printed = call(self.python, "-P", "-W", "error", "-c", code, *words, cwd=self.folder)
        return json.loads(printed)

    def script(self, name: str, *words: str) -> str:
        """Run one of the installed scripts."""
        return call(self.folder / "bin" / name, *words, cwd=self.folder)


def lend(library: Distribution, place: Path) -> None:
    """Link what a library has; of a folder that several share (google/) only its own files."""
    shared = _shared()
    for file in library.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        # Whole folders bring their compiled code along, which is most of the time of an import.
        name = file if file.parts[0] in shared else PurePath(file.parts[0])
        link = place / name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(library.locate_file(name))))


@cache
def _shared() -> frozenset[str]:
    """Return the folders of site-packages that more than one library puts files into."""
    seen = Counter(top for one in distributions() for top in {f.parts[0] for f in one.files or ()})
    return frozenset(top for top, count in seen.items() if count > 1)


@cache
def declared(extra: str = "") -> frozenset[str]:
    """Return the libraries that the base install, or one extra with the base, names itself."""
    table = project()["project"]
    asked = list(table["dependencies"])
    if extra:
        asked += table["optional-dependencies"][extra]
    names: set[str] = set()
    for text in asked:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == "heteroscale":
            names.update(*(declared(more) for more in requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return frozenset(names)


def closure(names: Iterable[str]) -> set[str]:
    """Return libraries with everything that they need in turn, as an installer would bring them."""
    found: set[str] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        found.add(name)
        for text in distribution(name).requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                below = canonicalize_name(need.name)
                if below not in found:
                    waiting += [(below, one) for one in ("", *need.extras)]
    return found
