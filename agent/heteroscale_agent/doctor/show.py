"""Findings for a person and for a program."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heteroscale_agent.doctor.finding import Finding, Level

FORMAT = 1
"""Version of the JSON document; fields are added to it, never taken away or given another meaning."""

_COLOURS = {Level.OK: "32", Level.NOTE: "33", Level.PROBLEM: "1;31"}
_WORD = max(len(level) for level in Level)
_NARROW, _WIDE = 60, 110
_CHECK_MAX = 24


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found on one host."""

    version: str
    """Of heteroscale."""
    host: str
    document: str
    """The configuration's path; empty: defaults."""
    findings: Sequence[tuple[str, Finding]]

    def count(self, level: Level) -> int:
        """Return how many findings are of a level."""
        return sum(finding.level is level for _, finding in self.findings)


def as_json(report: Report) -> str:
    """Return the report as one JSON document, described in docs/install.md."""
    document = {
        "format": FORMAT,
        "heteroscale": report.version,
        "host": report.host,
        "document": report.document or None,
        "counts": {level.value: report.count(level) for level in Level},
        "findings": [
            {
                "subject": subject,
                "check": finding.check,
                "level": finding.level.value,
                "saw": finding.saw,
                "todo": finding.todo,
            }
            for subject, finding in report.findings
        ],
    }
    return json.dumps(document, indent=2)


def as_text(report: Report, *, colour: bool, width: int = 0) -> str:
    """Return the report for a person: by subject, aligned, and wrapped to the terminal."""
    columns = width or shutil.get_terminal_size((_WIDE, 24)).columns
    columns = min(max(columns, _NARROW), _WIDE)
    lines = [f"heteroscale {report.version} on {report.host}, {report.document or 'defaults'}"]
    checks = min(max(len(finding.check) for _, finding in report.findings), _CHECK_MAX)
    subjects = dict.fromkeys(subject for subject, _ in report.findings)
    for subject in subjects:
        found = [finding for name, finding in report.findings if name == subject]
        lines += ["", _paint(subject, "1", colour=colour)]
        lines += _lines(found, checks, columns, colour=colour)
    return "\n".join([*lines, "", _sum(report, colour=colour)])


def _lines(found: Sequence[Finding], checks: int, columns: int, *, colour: bool) -> Iterator[str]:
    indent = 2 + _WORD + 2 + checks + 2
    for finding in found:
        word = _paint(f"{finding.level:<{_WORD}}", _COLOURS[finding.level], colour=colour)
        head = f"  {word}  {finding.check:<{checks}}"
        first, *rest = _wrapped(finding.saw, columns - indent)
        yield f"{head}  {first}"
        yield from (" " * indent + line for line in rest)
        for number, line in enumerate(_wrapped(finding.todo, columns - indent - 2)):
            if line:
                yield " " * indent + ("→ " if number == 0 else "  ") + line


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _sum(report: Report, *, colour: bool) -> str:
    problems, notes = report.count(Level.PROBLEM), report.count(Level.NOTE)
    said = f"{_number(problems, 'problem')}, {_number(notes, 'note')}, {report.count(Level.OK)} ok"
    level = Level.PROBLEM if problems else Level.NOTE if notes else Level.OK
    return _paint(said, _COLOURS[level], colour=colour)


def _number(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _paint(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
