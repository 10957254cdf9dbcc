"""Placement measured: how fast, how near the best, and against plain schedulers over a week."""
