"""Which file of an RDMA port says what, over all drivers.

A port has the files of its own driver only; names that two drivers share mean the same. `counters/`
holds what the InfiniBand architecture defines, `hw_counters/` what the driver adds.

Widths. The architecture's error counters are 4, 8 or 16 bits wide and *stick* at their top until
somebody clears them (`perfquery -R`): what stuck adds no more. Drivers' counters are 32 bits (mlx5's
queue counters) or 64 bits wide and wrap.
"""

from __future__ import annotations

WORD = 4
"""port_*_data count words of four octets."""
STUCK_WORDS = (1 << 32) - 1
"""Where the 32-bit data counters of old adapters stay: no longer a count of anything."""

RECEIVED_WORDS, SENT_WORDS = "port_rcv_data", "port_xmit_data"
"""In `counters/`. Adapters without them count octets in `hw_counters/`:"""

RECEIVED_OCTETS: tuple[tuple[str, ...], ...] = (
    ("rx_bytes",),  # bnxt_re, efa, mana
    ("rx_bytes_cnt",),  # erdma
    ("hw_rx_bytes_cnt",),  # erdma, as its vendor ships it
    ("ip4InOctets", "ip6InOctets"),  # irdma
)
SENT_OCTETS: tuple[tuple[str, ...], ...] = (
    ("tx_bytes",),
    ("tx_bytes_cnt",),
    ("hw_tx_bytes_cnt",),
    ("ip4OutOctets", "ip6OutOctets"),
)

LINK_DOWNED = "link_downed"
"""In `counters/`, 8 bits; rxe has it in `hw_counters/`."""
XMIT_WAIT = "port_xmit_wait"
"""In `counters/`, 32 bits: ticks in which data waited and none was sent. InfiniBand's congestion."""

PORT_ERRORS: tuple[str, ...] = (
    *("symbol_error", "link_error_recovery", "port_rcv_errors", "port_rcv_remote_physical_errors"),
    *("port_xmit_discards", "local_link_integrity_errors", "excessive_buffer_overrun_errors"),
)
"""In `counters/`: what goes wrong on the link. That it went down is counted by itself."""

HW_ERRORS: tuple[str, ...] = (
    # mlx5, and newer bnxt_re. req_cqe_error and resp_cqe_error are left out: they count what every
    # orderly end of a connection flushes.
    *("out_of_buffer", "out_of_sequence", "rx_icrc_encapsulated"),
    *("req_remote_invalid_request", "req_remote_access_errors", "resp_local_length_error"),
    *("resp_remote_access_errors", "req_transport_retries_exceeded", "req_rnr_retries_exceeded"),
    # bnxt_re. Its recoverable_errors is left out: older drivers put broadcast packets there.
    *("rx_roce_errors", "rx_roce_discards", "rx_out_of_buffer", "oos_drop_count"),
    *("max_retry_exceeded", "unrecoverable_err", "bad_resp_err", "local_qp_op_err"),
    *("local_protection_err", "remote_invalid_req_err", "remote_access_err", "remote_op_err"),
    # irdma
    *("rxVlanErrors", "ip4InDiscards", "ip6InDiscards", "ip4InTruncatedPkts"),
    *("ip6InTruncatedPkts", "tcpInProtoErrors", "InProtoErrors", "Rcvd Out of order packets"),
    "CRC errors",
    # efa
    *("rx_drops", "rdma_read_wr_err", "rdma_write_wr_err", "unresponsive_remote_events"),
    "impaired_remote_conn_events",
    # erdma, with and without its vendor's prefix
    *("disable_drop_cnt", "rx_disable_drop_cnt"),
    *("hw_disable_drop_cnt", "hw_rx_disable_drop_cnt"),
    # mana
    *("responder_oos", "requester_retries_exceeded", "requester_rnr_nak_retries_exceeded"),
    *("general_hw_error", "total_fatal_error", "nak_inv_req", "nak_access_error", "nak_opp_error"),
    # rxe
    *("out_of_seq_request", "retry_exceeded_err", "retry_rnr_exceeded_err", "send_err"),
)
"""In `hw_counters/`: what goes wrong in the transport, the receiver's side of a lost packet too."""

CONGESTION: tuple[str, ...] = (
    # mlx5, and newer bnxt_re
    *("np_cnp_sent", "np_cnp_pkts", "np_ecn_marked_roce_packets"),
    *("rp_cnp_handled", "rp_cnp_ignored"),
    *("tx_cnp_pkts", "rx_cnp_pkts", "rx_ecn_marked_pkts"),  # bnxt_re
    *("cnpSent", "cnpHandled", "cnpIgnored", "RxECNMrkd"),  # irdma
    *("sent_cnps", "received_cnps", "received_ecns"),  # mana
    *("bps_limit_drop_cnt", "rx_bps_limit_drop_cnt"),  # erdma: the cloud's limit, not a switch
    *("hw_bps_limit_drop_cnt", "hw_rx_bps_limit_drop_cnt"),
)
"""In `hw_counters/`: CNPs sent, handled and ignored, packets that came marked by ECN."""

RETRANSMISSIONS: tuple[str, ...] = (
    # mlx5: asked for again, timed out, peer not ready, and by its adaptive timer
    *("packet_seq_err", "implied_nak_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err"),
    "roce_adp_retrans",
    *("to_retransmits", "seq_err_naks_rcvd", "rnr_naks_rcvd"),  # bnxt_re
    *("tcpRetransSegs", "RetransSegs", "RTO", "RNR received"),  # irdma
    *("Nak Sequence Error", "Nak Sequence Error Implied"),
    "retrans_pkts",  # efa
    *("requester_timeout", "requester_oos_nak", "requester_rnr_nak", "requester_implicit_nak"),
    *("rcvd_seq_err", "rcvd_rnr_err", "completer_retry_err"),  # rxe
)
"""In `hw_counters/`, the requester's side: reasons why this port sent something again."""
