"""From a pod as the cluster has it to what is kept of it: whose it is, what it holds, how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.gpus import asked_by
from heteroscale_scheduler_adapters.kubernetes.marks import ADOPTED, OWNER, lives, waits, wish_of
from heteroscale_scheduler_adapters.kubernetes.objects import (
    condition,
    items,
    labels,
    part,
    text,
    told,
)
from heteroscale_scheduler_adapters.kubernetes.progress import OVER, progress
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.settings import AdoptSettings, KubernetesSettings
from heteroscale_scheduler_adapters.kubernetes.templates import LaunchTemplate
from heteroscale_scheduler_adapters.port import GateWish, Phase

ROLES = {
    **{role: role for role in ("prefill", "decode", "aggregated", "attention", "ffn")},
    "both": "aggregated",
    "prefill-decode": "aggregated",
}
"""What a role's label may say (llm-d says ``both``), and the role that it means."""
_OPEN = GateWish(open=True)


@dataclass(frozen=True, slots=True)
class Member:
    """Of which instance a pod is a rank."""

    unit: str
    """The same for all pods of the instance."""
    instance_id: str
    service: str
    role: str
    rank: int = 0
    ranks: int = 1
    group: str = ""
    template: str = ""
    request_id: str = ""
    origin: str = ""
    gate: GateWish = _OPEN
    gate_seen: bool | None = None
    endpoint: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenPod:
    """What is kept of a pod."""

    key: str
    """``namespace/name``."""
    uid: str
    namespace: str
    node: str
    gpus: int
    """That it holds on its node, or will; 0 once it is over."""
    labels: dict[str, str]
    phase: Phase
    message: str
    since: float
    owned: bool
    """A controller makes it anew when it is gone."""
    ready: bool
    owner: str = ""
    """The object that sets the number of its instance's; see `marks.OWNER`."""
    loose: bool = False
    """It is ours, lives, and waits at our gate until somebody sees to it."""
    member: Member | None = None
    """None: it is no instance of a service of ours."""


def seen_pod(
    thing: Object,
    settings: KubernetesSettings,
    cluster: str,
    now: float,
    handed: Mapping[str, str] = MappingProxyType({}),
) -> SeenPod | None:
    """Read a pod; None if it neither holds GPUs nor is an instance.

    Args:
        thing: The pod.
        settings: The adapter's.
        cluster: The adapter's name.
        now: Seconds since 1970; it tells how long the pod has been trying.
        handed: Uids of pods whose object was handed over, and by which template.

    """
    over = text(thing, "status", "phase") in OVER
    gpus = asked_by(thing, settings.gpus.resources)
    member = _member(thing, settings, cluster, handed)
    loose = waits(thing) and lives(thing) and _of(thing, cluster)
    if not gpus and member is None and not loose:
        return None
    metadata = part(thing, "metadata")
    phase, message, since = progress(thing, settings.failure, now)
    space, title = text(metadata, "namespace"), text(metadata, "name")
    return SeenPod(
        key=f"{space}/{title}",
        uid=text(metadata, "uid"),
        namespace=space,
        node=text(thing, "spec", "nodeName"),
        gpus=0 if over else gpus,
        labels=labels(thing),
        phase=phase,
        message=message,
        since=since,
        owned=controller(thing) is not None,
        ready=condition(thing, "Ready").get("status") == "True",
        owner=text(metadata, "annotations", OWNER),
        loose=loose,
        member=member,
    )


def controller(thing: Object) -> Object | None:
    """Return the reference to the object that makes this one anew, or None."""
    for one in items(thing, "metadata", "ownerReferences"):
        if one.get("controller") is True:
            return one
    return None


def origin_of(thing: Object) -> str:
    """Return who made a pod, as ``deployment/llm/chat``: its topmost owner that the pod itself tells."""
    metadata = part(thing, "metadata")
    space, title = text(metadata, "namespace"), text(metadata, "name")
    carried = labels(thing)
    group = carried.get(names.LWS_NAME)
    if group:
        return f"leaderworkerset/{space}/{group}"
    owner = controller(thing)
    if owner is None:
        return f"pod/{space}/{title}"
    kind, named = text(owner, "kind"), text(owner, "name")
    ending = f"-{carried.get(names.POD_TEMPLATE_HASH, '')}"
    if kind == "ReplicaSet" and len(ending) > 1 and named.endswith(ending):
        kind, named = "Deployment", named.removesuffix(ending)
    return f"{kind.lower()}/{space}/{named}"


def _of(thing: Object, cluster: str) -> bool:
    return labels(thing).get(names.CLUSTER) == names.label_value(cluster)


def _member(
    thing: Object, settings: KubernetesSettings, cluster: str, handed: Mapping[str, str]
) -> Member | None:
    carried = labels(thing)
    owner = carried.get(names.CLUSTER, "")
    if owner and owner != names.label_value(cluster):
        return None
    if names.REQUEST in carried and names.INSTANCE in carried:
        return _ours(thing)
    if carried.get(names.MANAGED_BY) == names.MANAGER:
        return None  # of an object of ours, and not yet given to an instance
    by = handed.get(text(thing, "metadata", "uid"))
    template = next((one for one in settings.templates if one.name == by), None)
    return _adopted(thing, settings, template)


def _ours(thing: Object) -> Member:
    carried = labels(thing)
    instance, request = told(thing, names.INSTANCE), told(thing, names.REQUEST)
    return Member(
        unit=instance,
        instance_id=instance,
        service=told(thing, names.SERVICE),
        role=carried.get(names.ROLE, ""),
        rank=_number(carried.get(names.RANK, "0")),
        ranks=max(1, _number(carried.get(names.RANKS, "1"))),
        group=told(thing, names.GROUP),
        template=told(thing, names.TEMPLATE),
        request_id="" if request == ADOPTED else request,
        gate=wish_of(thing),
        gate_seen=_gate_seen(thing),
        endpoint=_endpoint(thing, None),
        names=_names(thing, None),
    )


def _adopted(
    thing: Object, settings: KubernetesSettings, handed: LaunchTemplate | None
) -> Member | None:
    origin = origin_of(thing)
    named = next((one for one in settings.adopt if origin == _origin(one)), None)
    service = named.service if named else _first(thing, settings.pod_keys.service)
    role = named.role if named else ROLES.get(_first(thing, settings.pod_keys.role), "")
    if handed is not None and handed.scale is not None:
        service, role, origin = handed.scale.service, handed.role, ""
    if not service or not role:
        return None
    carried, uid = labels(thing), text(thing, "metadata", "uid")
    unit, rank, ranks = uid, 0, 1
    if carried.get(names.LWS_NAME):
        space = text(thing, "metadata", "namespace")
        unit = "/".join(("lws", space, carried[names.LWS_NAME], carried.get(names.LWS_GROUP, "0")))
        rank = _number(carried.get(names.LWS_WORKER, "0"))
        ranks = max(1, _number(told(thing, names.LWS_SIZE) or "1"))
    port = handed.port if handed else (named.port if named else None)
    return Member(
        unit=unit,
        instance_id=f"pod-{uid}" if rank == 0 else "",
        service=service,
        role=role,
        rank=rank,
        ranks=ranks,
        group=told(thing, names.GROUP),
        template=handed.name if handed else "",
        origin=origin,
        gate=wish_of(thing),
        gate_seen=_gate_seen(thing) if condition(thing, "Ready") else None,
        endpoint=_endpoint(thing, port or _port(_first(thing, settings.pod_keys.port))),
        names=_names(thing, port),
    )


def _origin(one: AdoptSettings) -> str:
    return f"{one.kind.lower()}/{one.namespace}/{one.name}"


def _first(thing: Object, keys: tuple[str, ...]) -> str:
    return next(filter(None, (told(thing, key) for key in keys)), "")


def _number(said: str) -> int:
    return int(said) if said.isascii() and said.isdigit() else 0


def _gate_seen(thing: Object) -> bool | None:
    """Say whether traffic can reach a pod: not Ready, no Service sends any; else the label tells."""
    if condition(thing, "Ready").get("status") != "True":
        return False
    declared = {text(one, "conditionType") for one in items(thing, "spec", "readinessGates")}
    said = labels(thing).get(names.GATE)
    if names.TRAFFIC in declared:
        return True  # it is Ready: whatever was wished, Services still send
    return None if said is None else said != names.CLOSED


def _port(said: str) -> int | None:
    number = _number(said)
    return number if 0 < number < 65536 else None  # noqa: PLR2004 - a port


def _where(thing: Object, port: int | None) -> str:
    """Return ``host:port``, empty before the pod has an address, or where no port is known."""
    address = text(thing, "status", "podIP")
    number = port or _port(told(thing, names.PORT)) or _only_port(thing)
    if not address or number is None:
        return ""
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def _only_port(thing: Object) -> int | None:
    ports = [
        one.get("containerPort")
        for container in items(thing, "spec", "containers")
        for one in items(container, "ports")
    ]
    return _port(str(ports[0])) if len(ports) == 1 else None


def _endpoint(thing: Object, port: int | None) -> str:
    where = _where(thing, port)
    return f"http://{where}" if where else ""


def _names(thing: Object, port: int | None) -> tuple[str, ...]:
    return tuple(filter(None, (text(thing, "metadata", "name"), _where(thing, port))))
