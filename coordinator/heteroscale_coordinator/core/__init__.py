"""Decides: events in, changes and effects out. No clock, no I/O, no wire; ``now`` is an argument."""
