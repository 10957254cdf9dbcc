"""GPUs: driver, library, count, and what each type does not tell."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from heteroscale.words import GpuHealth
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.model import Gpu, GpuReading
from heteroscale_agent.probes.gpu import GpuError, GpuProbe

NVIDIA, AMD = 0x10DE, 0x1002
_VENDORS = {NVIDIA: "NVIDIA", AMD: "AMD"}
_DISPLAY, _ACCELERATOR = 0x03, 0x12
_SHOWN = 8
"""So many of a list are named."""
_BETWEEN = 0.25
"""Seconds between two readings: rates and shares are told from the second on."""


def look(case: Case) -> Iterator[Finding]:
    """Yield what the driver says, after what the PCI bus says."""
    settings = case.spec.gpu
    if settings.source == "none":
        yield ok("source", "`gpu.source: none`: GPUs are not watched")
        return
    on_bus = Counter(vendor for vendor, _ in pci_gpus(case.spec.rdma.pci_root))
    listed = ", ".join(f"{count} {name}" for name, count in sorted(on_bus.items()))
    yield ok("PCI bus", f"GPUs: {listed or 'none'}")
    probe = GpuProbe(source=settings.source, library=settings.library, types=settings.types)
    try:
        probe.open()
    except GpuError as error:
        yield _no_driver(str(error), on_bus)
        yield from _enough(case, 0)
        return
    try:
        yield from _driver(case, probe)
    finally:
        probe.close()


def _driver(case: Case, probe: GpuProbe) -> Iterator[Finding]:
    vendor = "AMD" if any(gpu.vendor == "amd" for gpu in probe.gpus) else "NVIDIA"
    yield ok("driver", f"{vendor} {probe.driver_version or 'of unknown version'}")
    probe.read()
    threading.Event().wait(_BETWEEN)
    readings = probe.read()
    for kind in dict.fromkeys(gpu.type for gpu in probe.gpus):
        pairs = [(g, r) for g, r in zip(probe.gpus, readings, strict=True) if g.type == kind]
        yield from _type(kind, pairs)
    yield from _enough(case, len(probe.gpus))


def _no_driver(why: str, on_bus: Counter[str]) -> Finding:
    if on_bus["NVIDIA"]:
        return problem(
            "driver",
            f"{on_bus['NVIDIA']} NVIDIA GPUs on the bus, but {why}",
            "install the driver and its libnvidia-ml.so.1 (in a container: the NVIDIA container "
            "toolkit), or name the library with `gpu.library`",
        )
    if on_bus["AMD"]:
        return problem(
            "driver",
            f"{on_bus['AMD']} AMD GPUs on the bus, but {why}",
            "install ROCm's amd-smi-lib and `pip install 'heteroscale[amd]'`",
        )
    return note(
        "driver",
        why,
        "without a GPU this is right: `gpu.source: none` keeps the agent from asking",
    )


def _type(kind: str, pairs: list[tuple[Gpu, GpuReading]]) -> Iterator[Finding]:
    gpu = pairs[0][0]
    name = f"{len(pairs)} × {kind}"
    parts = Counter(one.partition for one, _ in pairs if one.partition)
    mig = "".join(f", {count} × MIG {profile}" for profile, count in parts.items())
    yield ok(name, f"{gpu.name or 'no name'}, {gpu.memory_bytes / (1 << 30):.0f} GiB each{mig}")
    for one, reading in pairs:
        if reading.health is not GpuHealth.OK:
            yield problem(
                f"GPU {one.index}",
                f"{reading.health.value} ({one.uuid or 'no UUID'})",
                "see dmesg for Xid errors; a lost GPU needs a reset or a reboot",
            )
    unknown = sorted(
        field.name
        for field in fields(GpuReading)
        if all(getattr(reading, field.name) is None for _, reading in pairs)
        and field.name != "foreign_process_count"  # the agent's own: it knows its instances
    )
    if unknown:
        yield note(name, f"does not tell: {', '.join(unknown)}", "unknown to policies, never zero")
    nodes = [one.index for one, _ in pairs if one.numa_node is None]
    if nodes:
        yield note(name, f"no NUMA node told for GPUs {_list(nodes)}", "the firmware does not say")


def _enough(case: Case, count: int) -> Iterator[Finding]:
    for name, template in sorted(case.spec.templates.items()):
        if template.gpus > count:
            yield problem(
                f"template {name}",
                f"wants {_gpus(template.gpus)}, the driver lists {count}",
                "lower `gpus`, or mend the driver: until then nothing is placed here",
            )


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def devices(case: Case) -> Iterator[Finding]:
    """Yield whether the device files of the driver may be opened."""
    nodes = [path for path in _list_dir(Path("/dev")) if path.name.startswith("nvidia")]
    if case.spec.gpu.source == "none" or not nodes:
        return
    closed = [
        str(node) for node in nodes if not node.is_dir() and not os.access(node, os.R_OK | os.W_OK)
    ]
    if closed:
        yield problem(
            "device files",
            f"may not open {_list(closed)}",
            "run the agent as a user who may, or add it to their group",
        )
    else:
        yield ok("device files", f"{len(nodes)} of /dev/nvidia*, all may be opened")


def pci_gpus(root: Path) -> list[tuple[str, str]]:
    """Return vendor and address of every GPU on the PCI bus; no driver is needed for it."""
    found: list[tuple[str, str]] = []
    for device in _list_dir(root):
        vendor, kind = _hex(device / "vendor"), _hex(device / "class")
        if vendor in _VENDORS and kind is not None and kind >> 16 in {_DISPLAY, _ACCELERATOR}:
            found.append((_VENDORS[vendor], device.name))
    return found


def _hex(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii").strip(), 16)
    except (OSError, ValueError):
        return None


def _list_dir(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _list(items: list[int] | list[str]) -> str:
    return ", ".join(map(str, items[:_SHOWN])) + (" …" if len(items) > _SHOWN else "")
