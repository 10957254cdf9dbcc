"""Pods of this node that are engines, by labels, annotations and the command of a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heteroscale_agent.config.discovery import PodDiscovery, PodKeys
from heteroscale_agent.discovery.argv import Recognised, recognise_command
from heteroscale_agent.discovery.sighting import (
    Sighting,
    engine_of,
    path_of,
    port_of,
    role_of,
    service_of,
)
from heteroscale_agent.probes.kube import KubernetesApi

INSTANCE = "heteroscale.io/instance"
"""Label of a pod that an adapter launched; the annotation of this name has it whole."""
RANK = "heteroscale.io/rank"
"""Of an instance of several pods only rank 0 serves."""
_OVER = frozenset({"Succeeded", "Failed"})


async def sightings(
    api: KubernetesApi, wanted: PodDiscovery, *, adapted: bool = False
) -> list[Sighting]:
    """Return the engines among this node's pods; ``adapted``: an adapter tells of each.

    Raises SourceError.
    """
    found: list[Sighting] = []
    async for pod in api.pods(wanted.selector, wanted.namespace, wanted.timeout):
        one = sighting(pod, wanted.keys, adapted=adapted)
        if one is not None:
            found.append(one)
    return found


def sighting(pod: Mapping[str, Any], keys: PodKeys, *, adapted: bool = False) -> Sighting | None:
    """Return a pod as an engine, or None when it is none, has no address yet, or is over."""
    metadata, spec, status = (_map(pod.get(part)) for part in ("metadata", "spec", "status"))
    uid, address = str(metadata.get("uid") or ""), str(status.get("podIP") or "")
    if not uid or not address or status.get("phase") in _OVER:
        return None
    if _texts(metadata.get("labels")).get(RANK, "0") != "0":
        return None
    told = {**_texts(metadata.get("annotations")), **_texts(metadata.get("labels"))}
    containers = [one for one in _list(spec.get("containers")) if isinstance(one, dict)]
    engine = next(filter(None, map(_recognised, containers)), None)
    role = role_of(_first(told, keys.role))
    service = service_of(_first(told, keys.service))
    # A label that any pod may have (`model`) does not make it an engine.
    said = engine is not None or role is not None or _first(told, keys.engine)
    if not said and not (service and _first(told, keys.port)):
        return None
    return Sighting(
        owner=f"pod:{uid}",
        origin=f"pod/{metadata.get('namespace', '')}/{metadata.get('name', '')}"[:253],
        host=f"[{address}]" if ":" in address else address,
        port=port_of(_first(told, keys.port)) or _port(engine, containers),
        service=service,
        role=role or (engine.role if engine else None),
        engine=engine_of(_first(told, keys.engine)) or (engine.engine if engine else ""),
        model=engine.model if engine else "",
        metrics_path=path_of(_first(told, keys.metrics_path)),
        ready=_ready(status),
        leaving="deletionTimestamp" in metadata,
        told_as=_told_as(metadata, uid, adapted=adapted),
    )


def _told_as(metadata: Mapping[str, Any], uid: str, *, adapted: bool) -> str:
    """Return the instance as which an adapter tells of a pod; empty: none does."""
    labels, notes = _texts(metadata.get("labels")), _texts(metadata.get("annotations"))
    if bound := labels.get(INSTANCE):
        return notes.get(INSTANCE, bound)  # a label has the shortened form of a long name
    return f"pod-{uid}" if adapted else ""


def _recognised(container: Mapping[str, Any]) -> Recognised | None:
    words = [*_list(container.get("command")), *_list(container.get("args"))]
    return recognise_command([word for word in words if isinstance(word, str)])


def _port(engine: Recognised | None, containers: Sequence[Mapping[str, Any]]) -> int | None:
    if engine is not None and engine.port is not None:
        return engine.port
    ports = [
        port.get("containerPort")
        for container in containers
        for port in _list(container.get("ports"))
        if isinstance(port, dict)
    ]
    return port_of(str(ports[0])) if len(ports) == 1 else None


def _ready(status: Mapping[str, Any]) -> bool:
    conditions = [one for one in _list(status.get("conditions")) if isinstance(one, dict)]
    return status.get("phase") == "Running" and any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in conditions
    )


def _first(told: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((told[key] for key in keys if told.get(key)), "")


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> dict[str, str]:
    return {key: text for key, text in _map(value).items() if isinstance(text, str)}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
