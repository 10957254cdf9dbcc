"""Discovery: where to look for engines of this host that others started."""

from __future__ import annotations

from typing import Literal

from heteroscale.documents import DocumentModel, Duration
from heteroscale_agent.config.fields import Name


class PodKeys(DocumentModel):
    """Labels (or annotations) of a pod that say what it is; of each list the first it carries wins."""

    service: tuple[str, ...] = ("heteroscale.io/service", "llm-d.ai/model", "model")
    """The service it works for. Without one, `services` is asked with the engine's model."""
    role: tuple[str, ...] = ("heteroscale.io/role", "llm-d.ai/role")
    """`prefill`, `decode`, `aggregated`, or llm-d's `both`. Without one, its command line tells."""
    port: tuple[str, ...] = ("heteroscale.io/port",)
    """Where it serves. Without one: its command line, its one container port, the engine's usual."""
    engine: tuple[str, ...] = ("heteroscale.io/engine",)
    """Whose metric names it shows. Without one, its command line tells; else vllm."""
    metrics_path: tuple[str, ...] = ("heteroscale.io/metrics-path", "prometheus.io/path")
    """Where its metrics are."""


class PodDiscovery(DocumentModel):
    """Pods of this node, through the Kubernetes API; how it is reached says `kubernetes`."""

    every: Duration = 15.0
    """From one list to the next."""
    timeout: Duration = 5.0
    """An answer that takes longer is none."""
    selector: str = ""
    """A label selector, such as `llm-d.ai/inferenceServing=true`; fewer pods, fewer bytes."""
    namespace: str = ""
    """Only pods of this namespace; empty: of all."""
    keys: PodKeys = PodKeys()


class JobDiscovery(DocumentModel):
    """Jobs on this node, through Slurm's `squeue`.

    A job says what it is in its comment or name, `heteroscale:service=chat,role=decode,port=8000`, or
    by HETEROSCALE_SERVICE, HETEROSCALE_ROLE and HETEROSCALE_PORT in the environment of its processes.
    """

    every: Duration = 60.0
    """From one look to the next: each is a request to Slurm's controller."""
    timeout: Duration = 10.0
    """An answer that takes longer is none."""
    format: Literal["text", "json"] = "text"
    """`json` also tells a job's GPUs where its processes cannot be read; it costs Slurm more."""


class ProcessDiscovery(DocumentModel):
    """Processes of this host whose command line is that of an engine's server."""

    every: Duration = 15.0
    """From one look through /proc to the next."""


class Discovery(DocumentModel):
    """Where to look for engines that others started here: watched, never commanded."""

    kubernetes: PodDiscovery | None = None
    """Pods of this node; `{}` for the defaults. None: not looked for."""
    slurm: JobDiscovery | None = None
    """Slurm jobs on this node."""
    processes: ProcessDiscovery | None = None
    """Processes, whoever started them. It also tells the GPUs of pods and jobs."""
    services: dict[str, Name] = {}
    """Model to service, for engines that do not say it: a pattern such as `qwen3-*`, or `*`. The first
    that fits wins; an engine without a service is not watched."""
    startup_timeout: Duration = 900.0
    """One that does not answer counts as starting for so long, and then as out of service."""
