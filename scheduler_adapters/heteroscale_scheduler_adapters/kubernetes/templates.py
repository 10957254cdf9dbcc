"""What can be launched: the templates of the options, checked before a cluster has to.

A template names one of three: ``object``, a manifest with the scale subresource of which one object is
kept per service, role and domain; ``scale``, an object that is there already and is handed over to be
scaled; ``pod``, pods that stand for themselves, each bound to its node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from heteroscale_scheduler_adapters.kubernetes.fields import Positive, Settings
from heteroscale_scheduler_adapters.kubernetes.objects import items, part, text
from heteroscale_scheduler_adapters.port import Template

Text = Annotated[str, Field(min_length=1, max_length=253)]
POD_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec.template",),
    "StatefulSet": ("spec.template",),
    "ReplicaSet": ("spec.template",),
    "LeaderWorkerSet": (
        "spec.leaderWorkerTemplate.leaderTemplate",
        "spec.leaderWorkerTemplate.workerTemplate",
    ),
}
"""By kind, where an object has the templates of its pods; those that are not there are left out."""
ORDINALS = frozenset({"StatefulSet", "LeaderWorkerSet"})
"""Kinds of which only the highest ordinal can leave."""


_EXCLUSIVE = "leaderworkerset.sigs.k8s.io/exclusive-topology"


class GateRule(Settings):
    """How traffic is kept from an instance.

    The label `heteroscale.io/gate` (`open`, `closed`) always follows the wish; what a Service or a router
    selects by, if it is not this label, is named here.
    """

    labels: dict[str, str] = {}
    """Labels that a pod has while traffic may come, and loses while not: `{llm-d.ai/pool: chat}`."""
    readiness: bool = False
    """Pods have the readiness gate `heteroscale.io/traffic`: while traffic may not come they are not
    Ready, so that every Service leaves them out. Launched pods get it; others must declare it."""
    service: str = ""
    """The Service, in the pods' namespace, by which traffic comes: its EndpointSlices then say whether an
    instance can be reached. Empty: the pods' readiness and labels say it."""


class Existing(Settings):
    """An object that is there already, handed over to be scaled."""

    api_version: Text = "apps/v1"
    """Of its kind: `leaderworkerset.x-k8s.io/v1`."""
    kind: Text
    """Any kind with the scale subresource."""
    name: Text
    """Of the object; it must be there."""
    namespace: str = ""
    """Empty: the template's."""
    service: Text
    """Which service its pods serve."""


class LaunchTemplate(Settings):
    """One template. Exactly one of `object`, `scale` and `pod` is given."""

    name: Text
    """As services' roles name it."""
    role: Literal["prefill", "decode", "aggregated", "attention", "ffn"]
    """Which role its instances have."""
    gpus: Annotated[int, Field(ge=0)]
    """GPUs of one rank, which is one pod."""
    engine: str = ""
    """Which engine runs there: `vllm`, `sglang`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Where rank 0 serves."""
    namespace: str = ""
    """Empty: the manifest's own, else the adapter's first."""
    object: dict[str, Any] | None = None
    """A manifest with the scale subresource: one object is kept for each service, role and domain."""
    scale: Existing | None = None
    """An object that is there already, handed over to be scaled."""
    pod: dict[str, Any] | None = None
    """`metadata` and `spec` of pods that stand for themselves, each bound to its node."""
    gate: GateRule | None = None
    """Without one, the adapter's."""
    pod_templates: tuple[str, ...] = ()
    """Where `object` has the templates of its pods, as dotted paths; known kinds need not say it."""
    selector: str = ""
    """Where `object` has the labels by which it finds its pods; empty: `spec.selector.matchLabels`,
    if it is there."""
    pin: Literal["preferred", "required"] = "preferred"
    """Whether an object's pod only prefers the node that placement chose in the domain, or needs it."""
    step_timeout: Positive = 60.0
    """Seconds in which all pods of a step must have been let in; else it is taken back."""
    force: bool = False
    """Scale the object also where others have their hands on it."""

    @model_validator(mode="after")
    def _meant(self) -> Self:
        given = [k for k in ("object", "scale", "pod") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"template {self.name}: give exactly one of object, scale and pod"
                + (f", not {' and '.join(given)}" if given else "")
            )
        if self.object is not None:
            _check_object(self, self.object)
        if self.pod is not None and not items(self.pod, "spec", "containers"):
            raise ValueError(f"template {self.name}: pod.spec.containers is empty")
        return self

    @property
    def kind(self) -> str:
        """The kind of the object that is scaled; ``Pod`` where pods stand for themselves."""
        if self.scale is not None:
            return self.scale.kind
        return "Pod" if self.object is None else text(self.object, "kind")

    def paths(self) -> tuple[str, ...]:
        """Return where ``object`` has the templates of its pods."""
        known = self.pod_templates or POD_TEMPLATES.get(self.kind, ("spec.template",))
        return tuple(path for path in known if part(self.object, *path.split(".")))

    def where(self, otherwise: str) -> str:
        """Return the namespace that its pods live in; ``otherwise``: the adapter's."""
        if self.scale is not None and self.scale.namespace:
            return self.scale.namespace
        manifest = self.object or self.pod or {}
        return self.namespace or text(manifest, "metadata", "namespace") or otherwise

    def cuts_off(self) -> str:
        """Return what is to be known of its end, in words; empty: requests in flight are waited for.

        We stop what has been drained. A node's drain, a preemption or a person sends SIGTERM at once, and
        at that vLLM ends its requests, unless it was started with ``--shutdown-timeout``.
        """
        pods = (
            [self.pod]
            if self.pod
            else [part(self.object, *path.split(".")) for path in self.paths()]
        )
        engines = [one for pod in pods for one in items(pod, "spec", "containers")]
        said = json.dumps([[one.get("command"), one.get("args")] for one in engines])
        hooked = any(part(one, "lifecycle", "preStop") for one in engines)
        if self.engine != "vllm" or not engines or hooked or "--shutdown-timeout" in said:
            return ""
        return (
            f"template {self.name}: vLLM ends requests in flight at SIGTERM, as a drained node sends it:"
            " start it with --shutdown-timeout and set terminationGracePeriodSeconds above that, or give"
            " it a preStop hook"
        )

    def told(self) -> Template:
        """Return it as the port tells it."""
        return Template(self.name, self.role, self.gpus, self.engine)


def _check_object(template: LaunchTemplate, manifest: dict[str, Any]) -> None:
    where = f"template {template.name}: object"
    for key in ("apiVersion", "kind"):
        if not text(manifest, key):
            raise ValueError(f"{where}.{key} is missing")
    if not template.paths():
        raise ValueError(
            f"{where} has no pod template at {' or '.join(template.pod_templates) or 'spec.template'};"
            " say where it is with podTemplates: [spec.…]"
        )
    spec = part(manifest, "spec")
    if template.kind == "StatefulSet" and spec.get("podManagementPolicy") == "OrderedReady":
        raise ValueError(
            f"{where}.spec.podManagementPolicy: OrderedReady starts one pod after the other, so no step"
            " could start whole; write Parallel, or leave it out"
        )
    if template.kind == "LeaderWorkerSet" and spec.get("startupPolicy") == "LeaderReady":
        raise ValueError(
            f"{where}.spec.startupPolicy: LeaderReady makes workers after their leader runs, so no step"
            " could start whole; write LeaderCreated, or leave it out"
        )
    if template.kind == "LeaderWorkerSet" and _EXCLUSIVE in part(
        manifest, "metadata", "annotations"
    ):
        raise ValueError(
            f"{where}.metadata.annotations: {_EXCLUSIVE} makes workers after their leader has a node, so"
            " no step could start whole; leave it out: placement chooses the domain"
        )
    rule = template.gate or GateRule()
    if both := set(rule.labels) & set(part(manifest, *selector_path(template))):
        raise ValueError(
            f"{where}: its selector has the gate's label {min(both)}; a pod that lost it would be"
            " replaced by its controller: take the label out of the selector"
        )


def selector_path(template: LaunchTemplate) -> tuple[str, ...]:
    """Return where ``object`` has the labels by which it finds its pods."""
    return tuple((template.selector or "spec.selector.matchLabels").split("."))
