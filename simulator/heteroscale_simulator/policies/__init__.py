"""Rival policies behind one port. The joint policy is the coordinator's core itself."""
