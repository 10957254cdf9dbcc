"""The fleet of a simulation: what a user writes (``kind: Fleet``), and the hosts that it means."""
