"""Measurements of the real thing, kept in the tree; see README.md for how each is made."""
