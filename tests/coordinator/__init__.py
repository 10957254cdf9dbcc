"""Tests of the coordinator: its edge on real files and loopback, its core beside it."""
