"""What a person writes under ``options`` of an adapter of kind ``kubernetes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.fields import Positive, Seconds, Settings, complaint
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule, LaunchTemplate

Level = Literal["s0", "s1", "s2", "logical_cluster", "vdc"]
Role = Literal["prefill", "decode", "aggregated", "attention", "ffn"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""As Kubernetes names a namespace."""

TOPOLOGY: dict[Level, tuple[str, ...]] = {
    "s0": (
        "accelerator.topograph.run/domain",
        "network.topology.nvidia.com/accelerator",
        "nvidia.com/gpu.clique",
    ),
    "s1": (
        "fabric.topograph.run/tier-0",
        "network.topology.nvidia.com/leaf",
        "network.topology.nvidia.com/block",
        "cloud.provider.com/topology-rack",
        "cloud.google.com/gce-topology-subblock",
        "topology.k8s.aws/network-node-layer-3",
    ),
    "s2": (
        "fabric.topograph.run/tier-1",
        "network.topology.nvidia.com/spine",
        "cloud.provider.com/topology-block",
        "cloud.google.com/gce-topology-block",
        "topology.k8s.aws/network-node-layer-2",
    ),
    "logical_cluster": (
        "fabric.topograph.run/tier-2",
        "network.topology.nvidia.com/core",
        "network.topology.nvidia.com/datacenter",
        "topology.k8s.aws/network-node-layer-1",
        "topology.kubernetes.io/zone",
    ),
    "vdc": ("topology.kubernetes.io/region",),
}
"""Label keys of each level; the first that a node carries wins."""


class RequestSettings(Settings):
    """How the API server is asked."""

    timeout: Positive = 15.0
    """Each call is answered within this, waiting for its turn included."""
    per_second: Annotated[float, Field(gt=0)] = 20.0
    """Calls a second in the long run."""
    burst: PositiveInt = 40
    """Calls at once, after a rest."""
    page_size: Annotated[int, Field(ge=1, le=5000)] = 500
    """Objects in one answer of a list."""
    list_timeout: Positive = 60.0
    """All pages of one list are read within this."""
    stall: Positive = 90.0
    """A watch that says nothing for so long is begun anew. A server sends a bookmark each minute."""
    lost: Positive = 20.0
    """A watch that cannot be resumed for so long is told as broken."""


class GpuSettings(Settings):
    """How GPUs are counted and named."""

    resources: dict[str, str] = {"nvidia.com/gpu": "nvidia", "amd.com/gpu": "amd"}
    """Extended resources that are whole GPUs, and their vendor."""
    type_labels: tuple[str, ...] = (
        "nvidia.com/gpu.product",
        "amd.com/gpu.product-name",
        "beta.amd.com/gpu.product-name",
        "cloud.google.com/gke-accelerator",
    )
    """Labels of a node that say which GPUs it has; the first it carries wins."""
    types: dict[str, str] = {}
    """What such a label says, and the type as specifications name it: `{NVIDIA-H20-3e: H20}`. Without
    an entry it is shortened: `NVIDIA-H100-80GB-HBM3` is H100."""


class PodKeys(Settings):
    """Labels or annotations by which pods that others made are known; the first a pod carries wins."""

    service: tuple[str, ...] = (names.SERVICE,)
    """Which service of ours it serves. Without one it is nobody's."""
    role: tuple[str, ...] = (names.ROLE, "llm-d.ai/role")
    """Its role there."""
    port: tuple[str, ...] = (names.PORT,)
    """Where it serves; without one, its one container port."""


class AdoptSettings(Settings):
    """Something that others made and own, whose pods serve a service of ours. It is never changed."""

    api_version: str = "apps/v1"
    """Of its kind."""
    kind: str = "Deployment"
    """What it is."""
    namespace: Name
    """Where it is."""
    name: str
    """What it is called."""
    service: str
    """Which service of ours its pods serve."""
    role: Role
    """Their role there."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where its pods serve; without one, their label or their one container port says."""


class FailureSettings(Settings):
    """When a pod that cannot run is held to have failed."""

    restarts: PositiveInt = 5
    """A container that waits in CrashLoopBackOff has been started so often."""
    image: Seconds = 300.0
    """An image cannot be pulled for so long. A name that is no image's fails at once."""


class KubernetesSettings(Settings):
    """One Kubernetes cluster."""

    kubeconfig: str | None = None
    """File with the login. Without one: of the pod that this runs in, else $KUBECONFIG, else
    ~/.kube/config."""
    context: str | None = None
    """Which of the file's contexts. Without one, its current."""
    namespace: Name = "default"
    """Where instances are launched, unless their template says another."""
    requests: RequestSettings = RequestSettings()
    topology: dict[Level, tuple[str, ...]] = {}
    """Label keys of a level, in place of the usual ones: `{s1: [example.com/rack]}`; an empty list: the
    level is not read."""
    gpus: GpuSettings = GpuSettings()
    node_selector: str = ""
    """Label selector: only these nodes are this cluster's to use."""
    templates: tuple[LaunchTemplate, ...] = ()
    """What can be launched, by the names that services' roles give as `template`."""
    gate: GateRule = GateRule()
    """How traffic is kept from instances, unless their template says otherwise."""
    adopt: tuple[AdoptSettings, ...] = ()
    """What others made that serves a service of ours, where no labels say so."""
    pod_keys: PodKeys = PodKeys()
    failure: FailureSettings = FailureSettings()
    quota_namespaces: tuple[Name, ...] = ()
    """Whose ResourceQuotas limit us. Without any: the namespaces that we launch in."""

    @field_validator("kubeconfig")
    @classmethod
    def _is_named(cls, path: str | None) -> str | None:
        if path is not None and not path.strip():
            raise ValueError("an empty name of a file: name one, or leave the field out")
        return path

    @model_validator(mode="after")
    def _adopts_once(self) -> Self:
        seen: set[tuple[str, str, str]] = set()
        for one in self.adopt:
            key = (one.kind, one.namespace, one.name)
            if key in seen:
                raise ValueError(f"adopt: {'/'.join(key)} is named twice")
            seen.add(key)
        return self

    @model_validator(mode="after")
    def _templates_once(self) -> Self:
        seen: set[str] = set()
        for one in self.templates:
            if one.name in seen:
                raise ValueError(f"templates: {one.name} is named twice")
            seen.add(one.name)
        return self

    def levels(self) -> dict[Level, tuple[str, ...]]:
        """Return the label keys of each level."""
        return {**TOPOLOGY, **self.topology}


def read_settings(cluster: str, options: Mapping[str, Any]) -> KubernetesSettings:
    """Return the options of the adapter called ``cluster``.

    Raises:
        SettingsError: each line of its text names a field and says what would be right.

    """
    try:
        return KubernetesSettings.model_validate(dict(options))
    except ValidationError as error:
        raise complaint(f"adapters[{cluster}].options", error) from None
