"""Slurm behind the port: through slurmrestd or through its commands, with the same results."""

from heteroscale_scheduler_adapters.slurm.adapter import SlurmAdapter, create

__all__ = ["SlurmAdapter", "create"]
