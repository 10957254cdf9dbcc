"""The trials done so far, one JSON line each, so that an interrupted test loses at most one.

The first line says what the test was: a journal of another service, workload or SLO is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heteroscale_workbench.pressure.values import Counts, PressureError, Trial

DIGITS = 6
"""Significant digits by which two loads are the same."""


_Key = tuple[str, Counts, str]


class Journal:
    """Trials by counts and load; kept on disk when there is a path."""

    def __init__(self, path: Path | None, what: Mapping[str, Any]) -> None:
        """Open or begin a journal.

        Raises:
            PressureError: it cannot be read or written, or tells of another test.

        """
        self._path = path
        self._trials: dict[_Key, Trial] = {}
        if path is None:
            return
        try:
            text = path.read_text("utf-8") if path.exists() else ""
            # A line that was being written when the test was cut off is done again.
            whole = text[: text.rfind("\n") + 1]
            self._take(path, whole.splitlines(), dict(what))
            path.write_text(whole or json.dumps(dict(what)) + "\n", "utf-8")
        except OSError as error:
            raise PressureError(f"{path}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._trials)

    def find(self, label: str, counts: Counts, rate: float) -> Trial | None:
        """Return the trial of this load, if it has been done."""
        return self._trials.get(_key(label, counts, rate))

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self._trials[_key(trial.label, trial.counts, trial.rate)] = trial
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(trial)) + "\n")

    def _take(self, path: Path, lines: list[str], what: dict[str, Any]) -> None:
        if not lines:
            return
        if json.loads(json.dumps(what)) != _parsed(path, 1, lines[0]):
            raise PressureError(
                f"{path} is the journal of another test (service, workload, SLO or durations "
                "differ): remove it to begin anew, or name another with --journal"
            )
        for number, line in enumerate(lines[1:], 2):
            fields = _parsed(path, number, line)
            try:
                trial = Trial(**{**fields, "counts": Counts(*fields["counts"])})
            except (TypeError, KeyError) as error:
                raise PressureError(f"{path}, line {number}: {error}") from error
            self._trials[_key(trial.label, trial.counts, trial.rate)] = trial


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise PressureError(f"{path}, line {number} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise PressureError(f"{path}, line {number} is no JSON object")
    return found


def _key(label: str, counts: Counts, rate: float) -> _Key:
    return label, counts, f"{rate:.{DIGITS}g}"
