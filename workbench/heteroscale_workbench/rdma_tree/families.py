"""What a port shows, by its driver: files, units, and what a counter does at its top."""

from __future__ import annotations

from dataclasses import dataclass

WORD = 4
"""Octets in one count of port_xmit_data and port_rcv_data."""

STICKS_AT: dict[str, int] = {
    "symbol_error": 2**16 - 1,
    "link_error_recovery": 2**8 - 1,
    "link_downed": 2**8 - 1,
    "port_rcv_errors": 2**16 - 1,
    "port_rcv_remote_physical_errors": 2**16 - 1,
    "port_rcv_switch_relay_errors": 2**16 - 1,
    "port_xmit_discards": 2**16 - 1,
    "port_xmit_constraint_errors": 2**8 - 1,
    "port_rcv_constraint_errors": 2**8 - 1,
    "local_link_integrity_errors": 2**4 - 1,
    "excessive_buffer_overrun_errors": 2**4 - 1,
    "VL15_dropped": 2**16 - 1,
    "port_xmit_wait": 2**32 - 1,
}
"""The architecture's counters stay at their top until they are cleared."""

ARCHITECTURE: tuple[str, ...] = (
    *("port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets"),
    *("unicast_xmit_packets", "unicast_rcv_packets"),
    *("multicast_xmit_packets", "multicast_rcv_packets"),
    *STICKS_AT,
)
"""All of `counters/`, 64 bits wide unless they stick."""

_MLX5_QUEUE = (
    *("rx_write_requests", "rx_read_requests", "rx_atomic_requests", "rx_dct_connect"),
    *("out_of_buffer", "out_of_sequence", "duplicate_request", "rnr_nak_retry_err"),
    *("packet_seq_err", "implied_nak_seq_err", "local_ack_timeout_err"),
    *("resp_local_length_error", "resp_cqe_error", "req_cqe_error", "req_remote_invalid_request"),
    *("req_remote_access_errors", "resp_remote_access_errors", "resp_cqe_flush_error"),
    *("req_cqe_flush_error", "req_transport_retries_exceeded", "req_rnr_retries_exceeded"),
)
_MLX5_ROCE_QUEUE = (
    *("roce_adp_retrans", "roce_adp_retrans_to", "roce_slow_restart"),
    *("roce_slow_restart_cnps", "roce_slow_restart_trans"),
)
_MLX5_CONGESTION = (
    *("rp_cnp_ignored", "rp_cnp_handled", "np_ecn_marked_roce_packets", "np_cnp_sent"),
    "rx_icrc_encapsulated",
)
_BNXT_RE = (
    *("active_pds", "active_ahs", "active_qps", "active_srqs", "active_cqs", "active_mrs"),
    *("rx_pkts", "rx_bytes", "tx_pkts", "tx_bytes", "recoverable_errors"),
    *("rx_roce_errors", "rx_roce_discards", "to_retransmits", "seq_err_naks_rcvd"),
    *("max_retry_exceeded", "rnr_naks_rcvd", "missing_resp", "unrecoverable_err", "bad_resp_err"),
    *("local_qp_op_err", "local_protection_err", "remote_invalid_req_err", "remote_access_err"),
    *("remote_op_err", "dup_req", "oos_drop_count", "rx_out_of_buffer"),
    *("tx_cnp_pkts", "rx_cnp_pkts", "rx_ecn_marked_pkts"),
)
_IRDMA = (
    *("rxVlanErrors", "ip4InOctets", "ip4InPkts", "ip4InDiscards", "ip4InTruncatedPkts"),
    *("ip4OutOctets", "ip4OutPkts", "ip6InOctets", "ip6InPkts", "ip6InDiscards"),
    *("ip6InTruncatedPkts", "ip6OutOctets", "ip6OutPkts", "tcpInSegs", "tcpOutSegs"),
    *("tcpRetransSegs", "tcpInOptErrors", "tcpInProtoErrors", "iwInRdmaReads", "iwInRdmaWrites"),
    *("iwOutRdmaReads", "iwOutRdmaWrites", "cnpHandled", "cnpIgnored", "cnpSent"),
    *("RxUDP", "TxUDP", "RxECNMrkd"),
)


@dataclass(frozen=True, slots=True)
class Family:
    """A driver's ports. Counters not named elsewhere are 64 bits wide."""

    name: str
    device: str
    """Devices are called by it and a number."""
    driver: str
    link_layer: str
    rate_gbps: int
    facts: tuple[tuple[str, str], ...]
    """Files of the device, with what they say."""
    counters: tuple[str, ...] = ()
    hw_counters: tuple[str, ...] = ()
    wraps_32: frozenset[str] = frozenset()
    sent: str = "port_xmit_data"
    received: str = "port_rcv_data"

    @property
    def unit(self) -> int:
        """Octets in one count of `sent` and `received`."""
        return WORD if self.sent in self.counters else 1


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            *("mlx5-infiniband", "mlx5_", "mlx5_core", "InfiniBand", 400),
            facts=(("fw_ver", "28.39.1002"), ("hca_type", "MT4129"), ("board_id", "MT_0000000838")),
            counters=ARCHITECTURE,
            hw_counters=_MLX5_QUEUE,
            wraps_32=frozenset(_MLX5_QUEUE),
        ),
        Family(
            *("mlx5-roce", "mlx5_", "mlx5_core", "Ethernet", 400),
            facts=(("fw_ver", "28.39.1002"), ("hca_type", "MT4129"), ("board_id", "MT_0000000970")),
            counters=ARCHITECTURE,
            hw_counters=(*_MLX5_QUEUE, *_MLX5_ROCE_QUEUE, *_MLX5_CONGESTION),
            wraps_32=frozenset((*_MLX5_QUEUE, *_MLX5_ROCE_QUEUE)),
        ),
        Family(
            *("bnxt-re", "bnxt_re", "bnxt_en", "Ethernet", 400),
            facts=(("fw_ver", "230.0.154.0"), ("hca_type", "BCM57608"), ("hw_rev", "0x1760")),
            hw_counters=_BNXT_RE,
            sent="tx_bytes",
            received="rx_bytes",
        ),
        Family(
            *("irdma", "irdma", "ice", "Ethernet", 100),
            facts=(("fw_ver", "1.71"),),
            hw_counters=_IRDMA,
            sent="ip4OutOctets",
            received="ip4InOctets",
        ),
    )
}
