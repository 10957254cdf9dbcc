"""A small service, a small fleet, and ``heteroscale simulate`` as a person's shell runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from heteroscale_simulator import command
from heteroscale_simulator.command.play import play

SERVICE = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  model: {name: Llama-3.1-8B}
  roles:
    prefill: {template: p, gpuTypes: [H100], max: 16, target: 12000}
    decode: {template: d, gpuTypes: [H100], max: 16, target: 5000}
  ratio: {min: 0.2, max: 4}
  slo: {ttft: 2s, tbt: 50ms}
  policy: {cooldownIn: 2m, cooldownOut: 1m, observation: 1m}
"""
FLEET = """\
apiVersion: heteroscale/v1
kind: Fleet
metadata: {name: few}
spec:
  startup: {median: 30s, p90: 40s}
  pools: [{name: h, nodes: 4, gpuType: H100, gpusPerNode: 8, pricePerGpuHour: 2}]
"""
TRAFFIC = "gen:diurnal?hours=0.5&period=0.5&trough-at=0&trough=0.1&peak=60"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What `--json -` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def simulate(*words: str | Path) -> Done:
    """Run a command line as a person's shell would."""
    out, err = StringIO(), StringIO()
    console = Console(file=err, width=120)
    code = command.execute([str(word) for word in words], play, out, console)
    return Done(code, out.getvalue(), err.getvalue())


Write = Callable[[str, str], Path]
