"""A tree like /sys/class/infiniband, with the files and the wording of an mlx5 adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

COUNTERS = (
    *("port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets"),
    *("port_xmit_wait", "port_xmit_discards", "port_rcv_errors", "symbol_error"),
    *("link_downed", "link_error_recovery"),
)
HW_COUNTERS = (
    *("out_of_buffer", "out_of_sequence", "packet_seq_err", "local_ack_timeout_err"),
    *("rnr_nak_retry_err", "np_cnp_sent", "rp_cnp_handled", "np_ecn_marked_roce_packets"),
    "roce_adp_retrans",
)


@dataclass(frozen=True)
class RdmaPort:
    """One port of a device below `root`; what it says can be changed at any time."""

    root: Path
    device: str = "mlx5_0"
    port: int = 1

    @property
    def folder(self) -> Path:
        return self.root / self.device / "ports" / str(self.port)

    def create(self, *, pci: str = "0000:18:00.0", numa_node: int = 0) -> RdmaPort:
        """Write every file of a port that is up and idle."""
        device = self.root / self.device
        real = self.root.parent / "devices" / pci
        for folder in (real, self.folder / "counters", self.folder / "hw_counters"):
            folder.mkdir(parents=True, exist_ok=True)
        (real / "numa_node").write_text(f"{numa_node}\n")
        if not (device / "device").exists():
            (device / "device").symlink_to(real)
        for name, text in {
            "node_guid": "9803:9b03:00a1:b2c3",
            "fw_ver": "28.39.1002",
            "board_id": "MT_0000000838",
            "hca_type": "MT4129",
        }.items():
            (device / name).write_text(f"{text}\n")
        self.says(state="4: ACTIVE", phys_state="5: LinkUp", rate="400 Gb/sec (4X NDR)")
        self.says(link_layer="InfiniBand")
        self.counts(**dict.fromkeys(COUNTERS, 0))
        self.hw_counts(**dict.fromkeys(HW_COUNTERS, 0), lifespan=10)
        return self

    def says(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(f"{text}\n")

    def counts(self, **values: int | str) -> None:
        for name, value in values.items():
            (self.folder / "counters" / name).write_text(f"{value}\n")

    def hw_counts(self, **values: int | str) -> None:
        for name, value in values.items():
            (self.folder / "hw_counters" / name).write_text(f"{value}\n")
