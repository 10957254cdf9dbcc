"""A real Prometheus on a free port, with what it is to scrape, or with a past that was written for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0
"""Seconds; a machine may be busy with everything else."""
TARGETS = "targets.json"
_ADDRESS = re.compile(rb'msg="Listening on" address=(\S+)')


@dataclass(frozen=True)
class Target:
    """An engine to be scraped, and the labels of its series."""

    address: str
    labels: Mapping[str, str]


def scrape(folder: Path, targets: Iterable[Target]) -> None:
    """Have the Prometheus of ``folder`` scrape just these from now on."""
    jobs = [{"targets": [target.address], "labels": dict(target.labels)} for target in targets]
    written = folder / f"new-{TARGETS}"
    written.write_text(json.dumps(jobs), "utf-8")
    written.rename(folder / TARGETS)


def write_past(folder: Path, lines: Iterable[str]) -> Path:
    """Turn OpenMetrics text into Prometheus's own blocks; return the folder with them."""
    text, data = folder / "past.txt", folder / "data"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    done = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return data


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path, targets: Sequence[Target] = (), data: Path | None = None
) -> AsyncIterator[str]:
    """Run a Prometheus that scrapes every second, and give its address; end it with the block.

    What it scrapes is in a file, as service discoveries write it; see ``scrape``.
    """
    scrape(folder, targets)
    discovery = {"files": [str(folder / TARGETS)], "refresh_interval": "1s"}
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "engines", "file_sd_configs": [discovery]}],
    }
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(settings), "utf-8")
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={data or folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        "--web.listen-address=127.0.0.1:0",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    log = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := _ADDRESS.search(log)) is None:
                line = await process.stderr.readline()
                assert line, f"prometheus ended: {log.decode()}"
                log += line
            while b"Server is ready to receive web requests" not in log:
                log += await process.stderr.readline()
        drain = asyncio.create_task(_read_on(process.stderr))
        yield f"http://{found[1].decode()}"
        drain.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _read_on(stream: asyncio.StreamReader) -> None:
    """Keep the log from filling its pipe."""
    while await stream.read(65536):
        pass
