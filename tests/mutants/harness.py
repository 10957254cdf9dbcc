"""Makes one mistake in a copy of a package, and runs tests against the copy in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).parents[2]
PACKAGES = ("proto", "agent", "coordinator", "scheduler_adapters", "simulator", "workbench", "cli")
"""Folders that pytest puts onto the path; a copy of one stands in for it."""
TESTS_FAILED = 1
"""Pytest's exit status when tests ran and some failed; anything else is no verdict."""
PATIENCE = 600.0
"""Seconds after which the tests hang; on a machine that others use they take minutes."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class NoVerdictError(Exception):
    """The mutant could not be made, or its tests could not be run."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which tests failed against a mutant, and all that pytest said."""

    caught_by: tuple[str, ...]
    output: str


def text_of(mutant: Mutant, source: str) -> str:
    """Return ``source`` with the mistake made.

    Raises:
        NoVerdictError: the snippet is not there exactly once: the code has moved on.

    """
    found = source.count(mutant.snippet)
    if found != 1:
        raise NoVerdictError(
            f"mutant {mutant.name!r}: its snippet occurs {found} times in {mutant.module}, not once: "
            f"{mutant.snippet!r}"
        )
    return source.replace(mutant.snippet, mutant.becomes)


def try_mutant(mutant: Mutant, folder: Path) -> Verdict:
    """Run the mutant's tests against a copy in ``folder`` that has its mistake.

    What fails for another reason than the claim that the mutant names has not caught it.

    Raises:
        NoVerdictError: it cannot be made, or pytest could not run the tests.

    """
    package = Path(mutant.module).parts[0]
    source = text_of(mutant, (ROOT / mutant.module).read_text(encoding="utf-8"))
    shutil.copytree(ROOT / package, folder / package)
    (folder / mutant.module).write_text(source, encoding="utf-8")
    found = run(mutant.tests, {package: folder / package})
    if mutant.claim and f"CLAIM BROKEN: {mutant.claim}:" not in found.output:
        return Verdict((), found.output)
    return found


def run(tests: tuple[str, ...], stand_ins: dict[str, Path]) -> Verdict:
    """Run ``tests`` with copies standing in for packages; stop at the first that fails."""
    places = [str(stand_ins.get(name, ROOT / name)) for name in PACKAGES]
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--no-header", "--tb=line"),
        *("-p", "no:cacheprovider", "-p", "no:xdist", "-o", f"pythonpath={' '.join(places)} ."),
        *(test for test in tests if (ROOT / test.split("::")[0]).exists()),
    ]
    # What an outer pytest tells its workers is not for this one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode not in (0, TESTS_FAILED):
        raise NoVerdictError(f"pytest ended with {done.returncode}:\n{output[-2000:]}")
    return Verdict(tuple(_FAILED.findall(output)), output)
