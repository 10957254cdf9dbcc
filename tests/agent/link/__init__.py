"""Tests of the stream to the coordinator."""
