"""A whole HeteroScale on one machine: coordinator, agents with simulated GPUs, the real router.

The demo shows it, the fault tests break it; both use this one.
"""
