"""A host like a DGX or HGX: two sockets, PCIe switches with a GPU and a NIC each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heteroscale_workbench.rdma_tree.families import FAMILIES
from heteroscale_workbench.rdma_tree.port import RdmaPort, add_pci_device

SOCKETS = 2
_GPU_BUS, _NIC_BUS = 0x10, 0x40
"""GPUs are where those of ``nvml_stub`` say they are."""


@dataclass(frozen=True, slots=True)
class RdmaHost:
    """Ports and GPUs of one host below ``base``; the first GPU shares a switch with the first port."""

    base: Path
    ports: tuple[RdmaPort, ...]
    gpu_addresses: tuple[str, ...]

    @property
    def infiniband(self) -> Path:
        """What the agent's `rdma.root` is to be."""
        return self.base / "infiniband"

    @property
    def pci(self) -> Path:
        """What the agent's `rdma.pciRoot` is to be."""
        return self.base / "pci"

    @classmethod
    def build(cls, base: Path, family: str = "mlx5-infiniband", pairs: int = 8) -> RdmaHost:
        """Write ``pairs`` switches with one GPU and one NIC each, half of them on each socket.

        Each switch hangs on a host bridge of its own: a pair is PIX, others of the socket NODE, the
        other socket's SYS. At most 32 pairs.
        """
        kind = FAMILIES[family]
        ports, gpus = [], []
        for pair in range(pairs):
            socket, bus = pair * SOCKETS // pairs, 0x80 + 4 * pair
            switch = (f"pci0000:{bus:02x}", f"0000:{bus:02x}:01.0", f"0000:{bus + 1:02x}:00.0")
            gpu = (*switch, f"0000:{bus + 2:02x}:00.0", f"0000:{_GPU_BUS + pair:02x}:00.0")
            nic = (*switch, f"0000:{bus + 2:02x}:01.0", f"0000:{_NIC_BUS + pair:02x}:00.0")
            add_pci_device(base, gpu, socket, driver="nvidia")
            gpus.append(gpu[-1])
            port = RdmaPort(base / "infiniband", f"{kind.device}{pair}", family=kind)
            ports.append(port.create(pci=nic, numa_node=socket))
        return cls(base, tuple(ports), tuple(gpus))
