"""``heteroscale simulate``: a service, a fleet and a trace under one policy or several."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console

from heteroscale.documents import DocumentError
from heteroscale_simulator.command.arguments import STDOUT, Options, UsageError, options, parser
from heteroscale_simulator.command.play import play
from heteroscale_simulator.command.progress import Watch, watch
from heteroscale_simulator.fleet import FleetTooSmallError
from heteroscale_simulator.policies.registry import KNOWN
from heteroscale_simulator.profiles import RangeError
from heteroscale_simulator.report.export import export
from heteroscale_simulator.report.figures import as_json
from heteroscale_simulator.report.files import Batch, check_file, check_folder
from heteroscale_simulator.report.page import page
from heteroscale_simulator.report.study import Study
from heteroscale_simulator.report.table import show

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_CUT_OFF = 141
"""Nobody reads our output any more: 128 + SIGPIPE, as shells count it."""
Play = Callable[[Options, Sequence[str], Watch], Study]


def run(argv: Sequence[str]) -> int:
    """Run ``heteroscale simulate ARGV…`` and return the exit code."""
    return execute(argv, play, sys.stdout, Console(stderr=True))


def execute(argv: Sequence[str], simulate: Play, out: TextIO, console: Console) -> int:
    """Run a command line with ``simulate`` as the world; ``console`` is standard error."""
    try:
        asked = options(parser(KNOWN).parse_args(argv), KNOWN)
        _check_outputs(asked)
        with watch(quiet=asked.quiet, wanted=asked.progress, console=console) as told:
            study = simulate(asked, ["heteroscale", "simulate", *argv], told)
        _deliver(study, asked, out)
        _show(study, asked, out, console)
    except BrokenPipeError:
        return _cut_off(out)
    except (ValueError, OSError) as error:
        console.file.write(f"{_refusal(error)}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.file.write("interrupted: nothing was written\n")
        return EXIT_INTERRUPTED
    return 0


def _refusal(error: Exception) -> str:
    """Return what was wrong, and what would be right where the error itself cannot know."""
    if isinstance(error, DocumentError):
        return str(error)
    if isinstance(error, RangeError):
        return f"error: {error} (--extend-profiles)"
    if isinstance(error, FleetTooSmallError):
        return f"error: {error}: add nodes, or begin with fewer: --initial PREFILL,DECODE"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror}: nothing was written"
    return f"error: {error}"


def _cut_off(out: TextIO) -> int:
    """End quietly when whoever read our output has gone, as ``head`` does."""
    if out is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # the interpreter flushes it again
    return EXIT_CUT_OFF


def _check_outputs(asked: Options) -> None:
    """Find out now, not after the run, what could not be written."""
    files = [("--json", asked.json), ("--report", asked.report)]
    places: list[Path] = []
    for option, path in files:
        if path is None or path == STDOUT:
            continue
        check_file(path, option)
        places.append(path.resolve())
    if asked.report == STDOUT:
        raise UsageError("--report -: name a file; only --json can go to standard output")
    inputs = {path.resolve() for path in (*asked.services, asked.fleet, *map(Path, asked.traces))}
    for place in places:
        if place in inputs:
            raise UsageError(f"{place.name} is an input of this run: write to another file")
    if len(set(places)) < len(places):
        raise UsageError(f"--json and --report both name {asked.report}: name two files")
    if asked.export is not None:
        check_folder(asked.export, "--export")


def _deliver(study: Study, asked: Options, out: TextIO) -> None:
    """Write what was asked for: all of it or none."""
    with Batch() as batch:
        if asked.json is not None and asked.json != STDOUT:
            batch.write(asked.json, [as_json(study)])
        if asked.report is not None:
            batch.write(asked.report, page(study))
        if asked.export is not None:
            export(study, asked.export, batch)
    if asked.json == STDOUT:
        out.write(as_json(study))
        out.flush()


def _show(study: Study, asked: Options, out: TextIO, console: Console) -> None:
    """Print the table: to standard output, unless the figures went there."""
    if asked.quiet:
        return
    target = console.file if asked.json == STDOUT else out
    show(study, target)
    for name, path in (("report", asked.report), ("tables", asked.export)):
        if path is not None:
            target.write(f"{name}: {path}\n")
