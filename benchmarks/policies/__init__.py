"""Policies side by side on real traces: what each costs, and whom it serves."""
