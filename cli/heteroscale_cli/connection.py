"""Where the coordinator is and how it is trusted: options that every talking command shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heteroscale_cli.errors import usage

DEFAULT_COORDINATOR = "127.0.0.1:7070"
DEFAULT_TIMEOUT = "10s"


@dataclass(frozen=True, slots=True)
class Connection:
    """Address, trust and patience of one command."""

    coordinator: str = DEFAULT_COORDINATOR
    """``host:port``."""
    ca: Path | None = None
    """PEM of the authority that signed the coordinator's certificate; turns TLS on."""
    cert: Path | None = None
    key: Path | None = None
    """PEM of the operator's own certificate and key, for mutual TLS."""
    server_name: str = ""
    """Name expected in the coordinator's certificate when it is not the host dialled."""
    insecure: bool = False
    """Go beyond loopback without TLS."""
    timeout_s: float = 10.0
    """Deadline of every call; of a watch, until its first snapshot is complete."""


def seconds(text: str, option: str) -> float:
    """Return the seconds of ``10s``, ``1m30s`` or ``10``.

    Raises:
        CliError: it is no duration, or none at all.

    """
    plain = text.removesuffix("s")
    if plain.isdecimal():
        value = float(plain)
    else:
        # pydantic comes with it: loaded only for what a plain number cannot say.
        from heteroscale.documents.fields import parse_duration  # noqa: PLC0415 - only when needed: start-up is short

        try:
            value = parse_duration(text)
        except ValueError as error:
            raise usage(f"{option}: {error}") from error
    if value <= 0:
        raise usage(f"{option}: must be above 0s")
    return value
