"""The end of a job's agent: who is still to hear of it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.job.duty import TICK, Duty
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.ports import Body

FAREWELL = 10.0
"""Seconds that it waits at most for routers and the coordinator to have heard of its end."""
LAST_WORDS = 0.5
"""Seconds for what was written to the stream to leave it."""


async def farewell(duty: Duty, body: Body, outbox: Outbox) -> None:
    """Wait until routers and the coordinator have heard of the end, as long as they may take."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL):
            # Three rooms would have to tell of it: looked at, not waited for.
            while not duty.is_out() or not outbox.empty or body.unacknowledged():  # noqa: ASYNC110
                await asyncio.sleep(TICK)
    await asyncio.sleep(LAST_WORDS)


@contextmanager
def job_folder(spec: AgentSpec, *, own: bool) -> Iterator[tuple[Path, list[int]]]:
    """Give a job's agent a state directory; its own goes when the job has ended well.

    Nothing of it is of use to another job, nor to the same job when it is run again.
    """
    statuses: list[int] = []
    if own:
        yield spec.state_dir, statuses
        return
    parent = os.environ.get("SLURM_TMPDIR") or os.environ.get("TMPDIR") or None
    folder = Path(tempfile.mkdtemp(prefix=f"heteroscale-{spec.agent_id}-", dir=parent))
    yield folder, statuses
    if statuses == [0]:
        shutil.rmtree(folder, ignore_errors=True)
