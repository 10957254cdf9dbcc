"""Who this agent is: an id that lasts, an incarnation per process, the kernel's boot id as a fact.

All of it lives in the state directory, which one process at a time may hold: a second agent on the
same directory is told so at once, on the host where it can be mended.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import BaseModel, Field, ValidationError

_FILE = "agent.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class IdentityError(RuntimeError):
    """The state directory cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The three parts of an agent's identity (design §4), and what tells two live processes apart."""

    agent_id: str
    incarnation: int
    process_token: str
    boot_id: str
    hostname: str


class _Kept(BaseModel, strict=True):
    """What the file holds."""

    agent_id: str = Field(min_length=1)
    incarnation: int = Field(gt=0, lt=1 << 53)


class StateDirectory:
    """The agent's directory, locked for as long as this object lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self.path / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise IdentityError(
                f"state directory {self.path} is held by another agent on this host; "
                "give this one a `stateDir` of its own"
            ) from None
        except OSError as error:
            self.close()
            raise IdentityError(f"state directory {self.path}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the directory free."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def identify(self, configured_id: str = "", *, at_least: int = 1) -> Identity:
        """Return this process's identity, with an incarnation above every one before.

        ``at_least``: where the directory is new each time, and what came before is known otherwise.

        Raises:
            IdentityError: the file is damaged, cannot be written, or names another agent.

        """
        kept_id, last = self._read()
        agent_id, incarnation = configured_id or kept_id or _draw_id(), max(last + 1, at_least)
        if kept_id not in ("", agent_id):
            raise IdentityError(
                f"{self.path / _FILE} belongs to agent {kept_id!r}, the configuration says "
                f"{agent_id!r}; give the new id a `stateDir` of its own"
            )
        self._write({"agent_id": agent_id, "incarnation": incarnation})
        boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
        token = secrets.token_hex(8)
        return Identity(agent_id, incarnation, token, boot_id, socket.gethostname())

    def kept_id(self) -> str:
        """Return the id that was drawn or given before; empty when there was none.

        Raises:
            IdentityError: the file is damaged or cannot be read.

        """
        return self._read()[0]

    def _read(self) -> tuple[str, int]:
        """Return the kept id and the last incarnation; empty and 0 when this is the first start."""
        path = self.path / _FILE
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return "", 0
        except OSError as error:
            raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"]
            raise IdentityError(
                f"{path} is damaged ({why}); remove it to start as a new agent"
            ) from error
        return kept.agent_id, kept.incarnation

    def _write(self, content: dict[str, object]) -> None:
        path, fresh = self.path / _FILE, self.path / f"{_FILE}.new"
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            _sync(self.path)
        except OSError as error:
            raise IdentityError(f"{path} cannot be written: {error.strerror}") from error


def _sync(folder: Path) -> None:
    """Make a rename outlast a power cut: an incarnation used twice would order reports wrongly."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draw_id() -> str:
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname().lower())[:40]
    return f"{host}-{secrets.token_hex(4)}"
