"""Where the host stands: which sources name its network domains, and how those are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from heteroscale.documents import DocumentModel, Duration

Level = Literal["s0", "s1", "s2", "logical_cluster", "physical_cluster", "vdc"]


class SlurmLevels(DocumentModel):
    """Domains from `scontrol show topology`: the tree of switches, or the blocks, of this node."""

    switches: tuple[Level, ...] = ("s1", "s2")
    """Levels of its switches, from the leaf upward; switches beyond the list are left out."""
    blocks: tuple[Level, ...] = ("s0", "s1")
    """Levels of its blocks (topology/block), from the smallest upward."""


class KubernetesLevels(DocumentModel):
    """Domains from the labels of this node."""

    labels: dict[Level, tuple[str, ...]] = {}
    """Label keys of a level, the first that the node carries wins; an empty list leaves a level out.
    Levels not named here take the keys listed under `Where this host stands`."""


class TopologySource(DocumentModel):
    """One place that names domains: exactly one of `file`, `command`, `slurm` and `kubernetes`."""

    file: Path | None = None
    """A file with a map of level to name (YAML or JSON), or lines LEVEL=NAME."""
    command: tuple[str, ...] = ()
    """A program that prints the same, with its arguments. There is no shell."""
    slurm: SlurmLevels | None = None
    """Ask Slurm; `{}` for the usual levels."""
    kubernetes: KubernetesLevels | None = None
    """Ask Kubernetes; `{}` for the usual labels."""
    timeout: Duration = 5.0
    """An answer that takes longer is none; it is tried again a minute later."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        said = (self.file, self.command or None, self.slurm, self.kubernetes)
        if sum(one is not None for one in said) != 1:
            raise ValueError("name exactly one of file, command, slurm and kubernetes")
        return self


class SlurmAccess(DocumentModel):
    """How this node's Slurm is asked: with `scontrol` and `squeue` from the PATH."""

    node_name: str = ""
    """The node's name in Slurm; default: SLURMD_NODENAME, else the short host name."""


class KubernetesAccess(DocumentModel):
    """How the Kubernetes API is asked; the defaults are those of a pod's service account."""

    api_server: str = ""
    """`https://host:port`; default: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT."""
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    """The bearer token; read anew for each request, because it is rotated."""
    ca_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    """The authority that signed the API server's certificate."""
    cluster: str = ""
    """What the coordinator's `adapters` call this cluster, where it drives it: of pods that adapter
    tells, and here they are only measured."""
    node_name: str = ""
    """This node's name; default: NODE_NAME (`fieldRef: spec.nodeName`), else the host name."""
