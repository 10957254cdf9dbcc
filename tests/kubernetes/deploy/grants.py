"""What was used of an API server, and what a kustomization's roles grant, in the same words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.kubernetes.deploy.kustomize import resolve
from tests.kubernetes.server.http import Seen

USER = "system:serviceaccount:heteroscale:heteroscale-coordinator"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
CREATED = 201
Right = tuple[str, str]
"""A verb, and a resource with its subresource."""


def used(every: Iterable[Seen]) -> set[Right]:
    """Return the rights that requests needed; what every login may ask (discovery) is none."""
    found = set[Right]()
    for one in every:
        parts = one.path.strip("/").split("/")
        parts = parts[3 if parts[0] == "apis" else 2 :]
        if not parts:
            continue
        if parts[0] == "namespaces" and len(parts) > 2:
            parts = parts[2:]
        verb = VERBS.get(one.method) or ("get" if len(parts) > 1 else "list")
        verb = "watch" if one.query.get("watch") else verb
        resource = "/".join([parts[0], *parts[2:]])
        found.add((verb, resource))
        if verb == "patch" and one.code == CREATED:  # what is applied and not there is created
            found.add(("create", resource))
    return found


def granted(folder: Path, *, kinds: tuple[str, ...] = ("Role", "ClusterRole")) -> set[Right]:
    """Return the rights that roles of the coordinator grant."""
    return {
        (verb, resource)
        for role in resolve(folder)
        if role["kind"] in kinds
        and not role["metadata"]["name"].startswith("heteroscale-services-")
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
