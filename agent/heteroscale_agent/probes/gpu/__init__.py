"""GPUs: what stands in the host and what it says, NVIDIA's through NVML, AMD's through amdsmi.

    driver (nvml, amd) ──▶ seats: index and place ──▶ probe ──▶ watch: whose process is it ──▶ eyes

What a GPU or its driver does not support is unknown; a GPU that fell off the bus is LOST and all of
it unknown. Calls may hang in the driver, so everything here belongs in a thread of its own.
"""

from __future__ import annotations

from heteroscale_agent.probes.gpu.naming import PCI_DEVICES, UNKNOWN_TYPE, short_type
from heteroscale_agent.probes.gpu.port import Driver, GpuError
from heteroscale_agent.probes.gpu.probe import GpuProbe

__all__ = ["PCI_DEVICES", "UNKNOWN_TYPE", "Driver", "GpuError", "GpuProbe", "short_type"]
