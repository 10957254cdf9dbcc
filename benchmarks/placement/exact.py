"""The solver as a process of its own: OR-tools lives in another environment than we do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "HETEROSCALE_SOLVER_PYTHON"
"""Environment variable: a Python that has OR-tools."""
DEFAULT = ROOT / ".venv-solver" / "bin" / "python"


class NoSolverError(RuntimeError):
    """There is no Python with OR-tools; the text says how to get one."""


def solver_python() -> Path:
    """Return the Python that has OR-tools. Raises NoSolverError."""
    path = Path(os.environ.get(PYTHON) or DEFAULT)
    if not path.exists():
        raise NoSolverError(f"no {path}: make .venv-solver, or set {PYTHON}")
    return path


class Solver:
    """Problems in, best values out; used as a context. Started with the first problem."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.communicate()

    def solve(self, problem: dict[str, Any]) -> dict[str, Any]:
        """Return the best values of one problem, as ``solver.py`` tells them.

        Raises:
            NoSolverError: there is none, or it ended.

        """
        if self._process is None:
            command = [str(solver_python()), str(Path(__file__).with_name("solver.py"))]
            self._process = subprocess.Popen(
                [*command, f"{self._seconds:g}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise NoSolverError("the solver has no pipes")
        stdin.write(json.dumps(problem) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise NoSolverError(f"the solver ended at {problem.get('name')}")
        answer: dict[str, Any] = json.loads(line)
        return answer
