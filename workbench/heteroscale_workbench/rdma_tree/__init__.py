"""Trees like the kernel's for RDMA ports, for hosts that have none: tests, demo, benchmarks.

```
BASE/infiniband/mlx5_0          → devices/…/infiniband/mlx5_0   as /sys/class/infiniband
BASE/pci/0000:13:00.0           → devices/…/0000:13:00.0        as /sys/bus/pci/devices
BASE/devices/pci0000:10/…                                       as /sys/devices
```

``families`` what a port of each driver shows · ``port`` one port, whose counters can be moved ·
``host`` a whole host with its PCI switches, GPUs and sockets. File names, units and widths are those
of `Documentation/ABI/stable/sysfs-class-infiniband` and of the drivers.
"""

from __future__ import annotations

from heteroscale_workbench.rdma_tree.families import FAMILIES, Family
from heteroscale_workbench.rdma_tree.host import RdmaHost
from heteroscale_workbench.rdma_tree.port import RdmaPort, add_pci_device

__all__ = ["FAMILIES", "Family", "RdmaHost", "RdmaPort", "add_pci_device"]
