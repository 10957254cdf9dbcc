"""Tests of the eyes as a whole."""
