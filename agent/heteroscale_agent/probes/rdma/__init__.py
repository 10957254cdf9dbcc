"""RDMA ports from sysfs: what they are, how busy, how congested, how healthy.

``names`` which files say what, by driver · ``facts`` finding ports · ``probe`` one reading of all.
Names and units are those of the kernel's `Documentation/ABI/stable/sysfs-class-infiniband` and of
the drivers below `drivers/infiniband/hw`.
"""

from __future__ import annotations

from heteroscale_agent.probes.rdma.facts import RdmaRules, rdma_rules
from heteroscale_agent.probes.rdma.probe import RdmaProbe, RdmaSight

__all__ = ["RdmaProbe", "RdmaRules", "RdmaSight", "rdma_rules"]
