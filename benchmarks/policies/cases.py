"""Which traffic is played, with which promise, and the service and fleet it is played on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

FLEET = """\
apiVersion: heteroscale/v1
kind: Fleet
metadata: {name: policies}
spec:
  pools:
    - {name: h100, nodes: 1500, gpuType: H100, gpusPerNode: 8, topology: {nodesPerS1: 16, s1PerS2: 16}}
  startup: {median: 120s, p90: 150s}
  telemetry: {delay: 1s}
"""
STARTUP = 150.0
"""Seconds: the fleet's p90. Nobody who learns of a rise answers it sooner."""
SERVICE = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  model: {name: Llama-3.1-8B, weights: bfloat16}
  roles:
    prefill: {template: prefill, gpuTypes: [H100], min: 1, max: 4000}
    decode: {template: decode, gpuTypes: [H100], min: 1, max: 4000}
  slo: {ttft: TTFT, tbt: 50ms}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """Traffic, the TTFT promised to its users, and which part of it is played."""

    traffic: str
    """A recording's file name, or what a generator is called."""
    ttft: str = "1s"
    begin: str = ""
    """Left out before it; nothing when empty."""
    duration: str = ""
    """All of it when empty."""

    @property
    def generated(self) -> bool:
        """Whether no recording is needed."""
        return self.traffic.startswith("gen:")

    @property
    def name(self) -> str:
        """A name for files."""
        return self.traffic.removeprefix("gen:").split(".")[0].split("?")[0]

    def trace(self, folder: Path | None) -> str:
        """Return what ``--trace`` is given."""
        return self.traffic if self.generated or folder is None else str(folder / self.traffic)

    def service(self) -> str:
        """Return the service's document before the pressure test."""
        return SERVICE.replace("TTFT", self.ttft)


CASES = (
    Case("azure2023_conv.csv.gz"),
    Case("azure2023_code.csv.gz"),
    # Prompts of 85,000 tokens take seconds on a free engine.
    Case("mooncake_conversation.csv.gz", ttft="10s"),
    Case("mooncake_synthetic.csv.gz", ttft="10s"),
    Case("azure2024_conv_days0to4.csv.gz", begin="6h", duration="4h"),
    Case("servegen_small_A.csv.gz", begin="6h", duration="4h"),
    Case("servegen_mid_A.csv.gz", begin="6h", duration="4h"),
    Case("servegen_large_A.csv.gz", begin="6h", duration="4h"),
    Case("gen:paper-day", begin="6h", duration="6h"),
    Case("gen:diurnal?hours=4&period=4&trough-at=0"),
    Case("gen:ratio-drift?hours=4&period=4"),
    Case("gen:prefill-heavy?hours=2&period=2&trough-at=0", ttft="3s"),
    Case("gen:decode-heavy?hours=2&period=2&trough-at=0"),
    Case("gen:flash-crowd"),
    Case("gen:on-off?on=300&off=300&low=0.3"),
    Case("gen:ramp"),
    Case("gen:steady"),
)
QUICK = (Case("gen:flash-crowd?hours=0.5"), Case("gen:diurnal?hours=0.5&period=0.5&trough-at=0"))
"""What ``--quick`` plays: whether it works at all."""


def present(
    folder: Path | None, wanted: list[str], *, quick: bool = False, duration: str = ""
) -> list[Case]:
    """Return the cases that can be played: generated, or in ``folder``; only the wanted, if named."""
    return [
        replace(case, duration=duration or case.duration)
        for case in (QUICK if quick else CASES)
        if (case.generated or (folder is not None and (folder / case.traffic).exists()))
        and (not wanted or case.name in wanted)
    ]
