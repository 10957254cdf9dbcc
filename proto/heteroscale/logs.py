"""How every process logs: events with fields, to stderr, each with the id of its cause.

Lines for a person on a terminal, JSON elsewhere. Libraries' own records (grpc, SQLAlchemy, alembic)
take the same way out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import Processor

Format = Literal["auto", "json", "console"]
_SECRET = frozenset({"password", "passphrase", "secret", "token", "authorization"})
_HIDDEN = "***"


def configure(level: str = "info", style: Format = "auto", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging, once, at the start of the process.

    ``level`` is one of debug, info, warning, error; ``auto`` looks whether ``stream`` (stderr) is a
    terminal.
    """
    out = stream or sys.stderr
    as_json = style == "json" or (style == "auto" and not out.isatty())
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *_renderers(as_json=as_json, colours=out.isatty()),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Every statement and every migration step is of interest to nobody but their authors.
    for name in ("alembic", "sqlalchemy", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _renderers(*, as_json: bool, colours: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(sort_keys=True, default=str),
        ]
    return [structlog.dev.ConsoleRenderer(colors=colours)]


def hide_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Blank fields whose name says that they are secret. The last resort, not the first."""
    for key in event:
        # By whole words: `tokens` are counted here all the time.
        if not _SECRET.isdisjoint(key.lower().split("_")):
            event[key] = _HIDDEN
    return event


@contextmanager
def caused_by(cause: str) -> Iterator[None]:
    """Give every line logged inside, also in tasks begun there, the field ``cause``.

    ``cause`` is the id of a decision, of an operator's request or of a command: the same that
    commands carry to agents, so that one search finds the whole story.
    """
    with bound_contextvars(cause=cause):
        yield
