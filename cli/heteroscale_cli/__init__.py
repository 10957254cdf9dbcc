"""The command line: what a person types. It speaks to the coordinator, and to nothing else."""
