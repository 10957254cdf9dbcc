"""Touches the world: the wire, the store, the network faces. Decides nothing."""
