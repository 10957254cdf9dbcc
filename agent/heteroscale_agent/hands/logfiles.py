"""Engines' log files: one for each instance, named by its id. Engines write them, nobody rotates them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import structlog

TAIL_BYTES = 4096
TAIL_LINES = 5
TAIL_CHARACTERS = 600

_log = structlog.get_logger(__name__)


class LogFiles:
    """The log files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, instance_id: str) -> Path:
        """Return where an instance's output goes."""
        return self.folder / f"{instance_id}.log"

    def tail(self, instance_id: str) -> str:
        """Return the last few lines of a log, printable and short; empty when there is none."""
        try:
            with self.path(instance_id).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - TAIL_BYTES))
                text = log.read(TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError:
            return ""
        shown = ("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
        lines = [line.strip() for line in shown if line.strip()]
        return " | ".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]

    def drop(self, instance_ids: Iterable[str]) -> None:
        """Remove the logs of instances; where that fails it is said aloud, and not tried again."""
        for instance_id in instance_ids:
            path = self.path(instance_id)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("log.not_removed", path=str(path), error=error.strerror)
