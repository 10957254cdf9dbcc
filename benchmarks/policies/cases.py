"""Which recordings are played, with which promise, and the service and fleet they are played on."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Traffic, the TTFT promised to its users, and how much of it is played."""

    traffic: str
    """A recording's file name, or what a generator is called."""
    ttft: str = "1s"
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

    def trace(self, folder: Path) -> str:
        """Return what ``--trace`` is given."""
        return self.traffic if self.generated else str(folder / self.traffic)

    def lengths(self, folder: Path) -> tuple[str, ...]:
        """Return what a pressure test is told of the requests' lengths; generators' own means."""
        if self.generated:
            return ("--input-tokens", "1000", "--output-tokens", "200", "--spread", "1")
        return ("--trace", str(folder / self.traffic))

    def service(self) -> str:
        """Return the service's document before the pressure test."""
        return SERVICE.replace("TTFT", self.ttft)


CASES = (
    Case("azure2023_conv.csv.gz"),
    Case("azure2023_code.csv.gz"),
    # Prompts of 85,000 tokens take seconds on a free engine.
    Case("mooncake_conversation.csv.gz", ttft="10s"),
    Case("mooncake_synthetic.csv.gz", ttft="10s"),
    Case("azure2024_conv_days0to4.csv.gz", duration="24h"),
    Case("servegen_small_A.csv.gz", duration="24h"),
    Case("servegen_mid_A.csv.gz", duration="24h"),
    Case("servegen_large_A.csv.gz", duration="24h"),
    Case("gen:paper-day"),
    Case("gen:flash-crowd", duration="4h"),
    Case("gen:ratio-drift", duration="12h"),
)


def present(folder: Path | None, wanted: list[str]) -> list[Case]:
    """Return the cases that can be played: generated, or in ``folder``; only the wanted, if named."""
    return [
        case
        for case in CASES
        if (case.generated or (folder is not None and (folder / case.traffic).exists()))
        and (not wanted or case.name in wanted)
    ]
