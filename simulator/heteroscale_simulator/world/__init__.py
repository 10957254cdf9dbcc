"""The world: hosts, agents' twins and virtual time around the core, or around a rival."""
