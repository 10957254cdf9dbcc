"""What watch does: the live view on a terminal, lines through a pipe, JSON lines for machines."""

from __future__ import annotations

import sys
import time
from contextlib import aclosing

from heteroscale_cli.client import Client, run
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import usage
from heteroscale_cli.lines import Lines
from heteroscale_cli.output import print_line, print_note, print_text
from heteroscale_cli.picture import Lost, Picture, follow
from heteroscale_cli.vocabulary import Output

_FRAMES_PER_SECOND = 4


def watch(connection: Connection, service: str, output: Output) -> None:
    """Watch until interrupted."""
    if output in (Output.JSON, Output.YAML):
        run(connection, lambda client: _machine(client, service, output))
    elif output is Output.WIDE:
        raise usage("watch has no wide format: `get instances -o wide -w` has")
    elif sys.stdout.isatty():
        run(connection, lambda client: _live(client, service))
    else:
        run(connection, lambda client: _lines(client, service))


async def _machine(client: Client, service: str, output: Output) -> None:
    async with aclosing(follow(client, service)) as items:
        async for item in items:
            if isinstance(item, Lost):
                print_note(f"not up to date: {item.reason}; trying again")
            else:
                print_line(item, output)


async def _lines(client: Client, service: str) -> None:
    lines = Lines()
    async with aclosing(follow(client, service)) as items:
        async for item in items:
            if (line := lines.line(item, time.time())) is not None:
                print_text(line)


async def _live(client: Client, service: str) -> None:
    from rich.console import Console  # noqa: PLC0415  (only a terminal needs rich)
    from rich.live import Live  # noqa: PLC0415 - only when needed: start-up is short

    from heteroscale_cli.screen import render  # noqa: PLC0415 - only when needed: start-up is short

    console, picture = Console(), Picture()
    with Live(
        console=console,
        screen=True,
        refresh_per_second=_FRAMES_PER_SECOND,
        get_renderable=lambda: render(picture, time.time(), height=console.height),
    ):
        async with aclosing(follow(client, service)) as items:
            async for item in items:
                picture.take(item)
