"""The entry point of ``heteroscale``: hand over to a program, or run one of our own commands."""

from __future__ import annotations

import os
import sys

from heteroscale_cli import handover
from heteroscale_cli.errors import EXIT_REFUSED

_COMPLETION = "_HETEROSCALE_COMPLETE"
_CLI_PACKAGES = {"typer", "rich"}


def main(argv: list[str] | None = None) -> int:
    """Run ``heteroscale ARGV…`` and return its exit code; typer's commands raise SystemExit."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and _COMPLETION not in os.environ:
        program = handover.find(arguments[0])
        if program is not None:
            return handover.run(program, arguments[1:])
    try:
        from heteroscale_cli.app import app  # noqa: PLC0415  (see handover: not for programs)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _CLI_PACKAGES:
            raise
        return _without_cli(arguments)
    app(args=arguments, prog_name="heteroscale")
    return 0


def _without_cli(arguments: list[str]) -> int:
    """Say what the small base install of a GPU host can do."""
    asked = arguments[:1] in ([], ["--help"])
    out = sys.stdout if asked else sys.stderr
    print("The operator's commands need: pip install 'heteroscale[cli]'", file=out)
    print("Here without it:", file=out)
    for name, point in handover.programs().items():
        print(f"  heteroscale {name:<12} {handover.describe(point)}", file=out)
    return 0 if asked else EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
