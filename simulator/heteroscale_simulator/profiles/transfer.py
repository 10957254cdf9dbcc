"""How fast KV travels where nobody says so. Bandwidth one way, for one transfer that has a link alone."""

from __future__ import annotations

from heteroscale_simulator.profiles.model import LinkProfile, TransferProfile

DEFAULT_TRANSFER = TransferProfile(
    s0=LinkProfile(gigabytes_per_second=200, latency_ms=0.05),
    s1=LinkProfile(gigabytes_per_second=45, latency_ms=0.1),
    s2=LinkProfile(gigabytes_per_second=36, latency_ms=0.2),
    cluster=LinkProfile(gigabytes_per_second=12, latency_ms=0.5),
)
"""Our assumptions, each from a stated rate:

- s0, inside a node: NVLink 4 moves 450 GB/s one way (H100 data sheet); a little under half is reached.
- s1, inside a minipod: one 400 Gb/s port (NDR InfiniBand) is 50 GB/s; nine tenths are reached.
- s2, across S1 switches: a fifth less, the loss that the HeteroScale paper reports for a careless
  placement (arXiv 2508.19559).
- cluster, beyond S2: a 100 Gb/s share, 12.5 GB/s.

Latencies are orders of magnitude: a hop of RDMA and the handshake of an engine's connector.
"""
