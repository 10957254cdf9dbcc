"""The parts of a cluster that are no API server: played here where it is ours, real where it is real."""
