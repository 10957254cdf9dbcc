"""An agent's body in a process of its own, to be killed; run as a module.

usage: python -m tests.agent.agent_process FOLDER NAME
Launches one engine, waits until it serves, prints its pid, and lives on.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from heteroscale.words import InstanceState
from tests.agent.host_world import Host, launch_of, spec_of


async def main(folder: Path, name: str) -> None:
    """Launch and live."""
    host = Host(spec_of(folder))
    await host.start()
    await host.do(launch_of(), name)
    status = await host.until(InstanceState.IN_SERVICE, name)
    sys.stdout.write(f"{status.pid} {status.endpoint}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
