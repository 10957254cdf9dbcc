"""What the agent does to its host: processes, ports, gates."""
