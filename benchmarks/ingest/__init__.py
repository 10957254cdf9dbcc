"""How many agents' reports one coordinator takes in, beside a bare gRPC server."""
