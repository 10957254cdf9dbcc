"""The world around the agents, in a process of its own so that its work is not theirs.

usage: python -m benchmarks.agent.world FOLDER
Writes the GPUs' state file and the NICs' tree into FOLDER and keeps both moving; serves the engines'
metrics on free ports; prints the ports, and once more, at the end of its input, the scrapes of each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.agent.texts import ENGINES, render
from heteroscale_workbench.nvml_stub import StubGpu, StubState
from heteroscale_workbench.rdma_tree import RdmaPort

GPUS = NICS = 8
PERIOD_S = 1.0
KEEP_ALIVE_S = 5.0
"""An idle connection is closed after so long: uvicorn's default, and so vLLM's and SGLang's."""
_OCTETS_PER_S = 20_000_000_000
_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


class Engines:
    """Metrics endpoints, one for each of `ENGINES`."""

    def __init__(self) -> None:
        self.scrapes: Counter[int] = Counter()
        self._lines = [engine.lines() for engine in ENGINES]
        self._began = time.monotonic()

    async def serve(self) -> list[int]:
        """Listen; return the ports, in order."""
        ports = []
        for place in range(len(ENGINES)):
            server = await asyncio.start_server(
                lambda r, w, place=place: self._answer(place, r, w),  # type: ignore[misc]
                "127.0.0.1",
                0,
            )
            ports.append(server.sockets[0].getsockname()[1])
        return ports

    async def _answer(
        self, place: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            close = False
            while not close:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                close = b"connection: close" in request.lower()
                body = render(self._lines[place], time.monotonic() - self._began)
                writer.write(f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
                self.scrapes[place] += 1
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # an agent that ends or asks no more, or the world's end
        finally:
            writer.close()


class Devices:
    """GPUs and NICs whose values move once a second."""

    def __init__(self, folder: Path) -> None:
        rows = [StubGpu(name="NVIDIA H100 80GB HBM3", pids=(4000 + i,)) for i in range(GPUS)]
        self._gpus = StubState(folder / "gpus.state", rows)
        root = folder / "infiniband"
        self._nics = [
            RdmaPort(root, f"mlx5_{i}").create(pci=f"0000:{0x18 + i:02x}:00.0", numa_node=i // 4)
            for i in range(NICS)
        ]
        self.move(0)

    def move(self, turn: int) -> None:
        """Show the values of second ``turn``."""
        for i in range(GPUS):
            self._gpus.change(
                i,
                utilization_percent=60 + (turn + i) % 40,
                memory_utilization_percent=30 + turn % 20,
                memory_used_mib=70_000 + turn % 999,
                power_milliwatts=500_000 + 1000 * (turn % 100),
                temperature_celsius=60 + turn % 9,
            )
        self._gpus.write()
        for place, nic in enumerate(self._nics):
            words = (turn * _OCTETS_PER_S + place) // 4
            nic.counts(port_rcv_data=words, port_xmit_data=words, port_rcv_errors=turn // 10)
            nic.hw_counts(np_cnp_sent=turn, rp_cnp_handled=turn, out_of_sequence=turn // 7)


async def main(folder: Path) -> None:
    """Serve and move until the input ends."""
    engines, devices = Engines(), Devices(folder)
    print(json.dumps(await engines.serve()), flush=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    turn = 0
    while not ended.done():
        await asyncio.wait([ended], timeout=PERIOD_S)
        turn += 1
        devices.move(turn)
    print(json.dumps([engines.scrapes[place] for place in range(len(ENGINES))]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
