"""GPU types by the short names that agents report, with what their vendors state about them.

The table is ``data/hardware.csv``. Aliases are the longer names that tables of measurements use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from heteroscale_simulator.profiles.csvs import Row, named, number

Link = Literal["nvlink", "pcie"]
MemoryKind = Literal["HBM", "GDDR"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """One GPU type. Rates are peaks, without sparsity."""

    name: str
    aliases: tuple[str, ...]
    bf16_tflops: float
    fp8_tflops: float | None
    """None: it has no FP8 units; FP8 weights are unpacked and multiplied as BF16."""
    memory_gib: float
    """As the driver shows it, error correction taken off."""
    memory_kind: MemoryKind
    memory_gbps: float
    """GB/s."""
    link: Link
    """What joins the GPUs of a node: switched (NVLink, Infinity Fabric), or the host's PCIe."""
    link_gbps: float
    """GB/s of one GPU, both directions together."""
    power_w: float
    """Board power."""
    price_per_hour: float
    """Our default, in dollars for a GPU-hour, to compare types by; a Fleet states its own."""
    source: str

    def tflops(self, weights: str) -> float:
        """Return the peak rate for matrices of ``weights``, e.g. bfloat16 or fp8."""
        return self.fp8_tflops or self.bf16_tflops if weights == "fp8" else self.bf16_tflops


@cache
def hardware(folder: Path | None = None) -> Mapping[str, Hardware]:
    """Return GPU types by short name: ``folder/hardware.csv``, where it is, over the shipped ones.

    Raises:
        ValueError: a column or a number is wrong; with file and line.

    """
    return named("hardware.csv", folder, _hardware)


def short_name(name: str, known: Mapping[str, Hardware]) -> str:
    """Return the short name of a GPU type that a table may name at length; itself if unknown."""
    if name in known:
        return name
    return next((kind.name for kind in known.values() if name in kind.aliases), name)


def _hardware(row: Row) -> Hardware:
    kind, link = row["memory_kind"], row["link"]
    if kind not in ("HBM", "GDDR"):
        raise ValueError(f"{row.place}: memory_kind is {kind!r}, not HBM or GDDR")
    if link not in ("nvlink", "pcie"):
        raise ValueError(f"{row.place}: link is {link!r}, not nvlink or pcie")
    return Hardware(
        name=row["gpu"],
        aliases=tuple(row["aliases"].split()),
        bf16_tflops=number(row, "bf16_tflops"),
        fp8_tflops=number(row, "fp8_tflops") if row["fp8_tflops"] else None,
        memory_gib=number(row, "memory_gib"),
        memory_kind="HBM" if kind == "HBM" else "GDDR",
        memory_gbps=number(row, "memory_gbps"),
        link="nvlink" if link == "nvlink" else "pcie",
        link_gbps=number(row, "link_gbps"),
        power_w=number(row, "power_w"),
        price_per_hour=number(row, "price_per_hour"),
        source=row["source"],
    )
