"""Where the agent looks: GPUs, RDMA ports, the host, its place in the network, and engines."""
