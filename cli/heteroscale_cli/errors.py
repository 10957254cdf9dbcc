"""How a command fails: one line that says what to do, and an exit code scripts can rely on."""

from __future__ import annotations

EXIT_REFUSED = 1
"""The coordinator refused, or does not know the name."""
EXIT_USAGE = 2
"""The command line, a file named on it, or the TLS settings are wrong; nothing was sent."""
EXIT_UNREACHABLE = 3
"""No coordinator answered in time."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells count it."""


class CliError(Exception):
    """A failure a person can act on; ``code`` is the exit code.

    ``verbatim``: the text stands as it is, as violations of a document do, without ``error:``.
    """

    def __init__(self, text: str, code: int = EXIT_REFUSED, *, verbatim: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.verbatim = verbatim

    def shown(self) -> str:
        """Return the text as standard error shows it."""
        return str(self) if self.verbatim else f"error: {self}"


def usage(text: str) -> CliError:
    """Return the error of a command line that cannot be obeyed."""
    return CliError(text, EXIT_USAGE)
