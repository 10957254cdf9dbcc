"""What the server says of itself: /version, /api, /apis, and the kinds of each group."""

from __future__ import annotations

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import Kind, Kinds

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_SCALED = {"group": "autoscaling", "version": "v1", "kind": "Scale"}

VERSION: Json = {
    "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "0" * 40,
    "gitTreeState": "clean", "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26.2",
    "compiler": "gc", "platform": "linux/amd64",
}  # fmt: skip


def core_versions(address: str) -> Json:
    return {
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }  # fmt: skip


def _versions(kinds: Kinds) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind in kinds.all():
        if kind.group and kind.version not in found.setdefault(kind.group, []):
            found[kind.group].append(kind.version)
    return found


def _group(name: str, versions: list[str]) -> Json:
    said = [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]
    return {"name": name, "versions": said, "preferredVersion": said[0]}


def groups(kinds: Kinds) -> Json:
    found = [_group(name, versions) for name, versions in _versions(kinds).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(kinds: Kinds, name: str) -> Json | None:
    versions = _versions(kinds).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def _subresources(kind: Kind) -> list[Json]:
    base = {"singularName": "", "namespaced": kind.namespaced}
    found: list[Json] = []
    if kind.status:
        found.append(
            {
                "name": f"{kind.plural}/status",
                **base,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }
        )
    if kind.scale:
        found.append(
            {"name": f"{kind.plural}/scale", **base, **_SCALED, "verbs": ["get", "patch", "update"]}
        )
    if "eviction" in kind.subresources:
        found += [
            {"name": "pods/eviction", **base, "group": "policy", "version": "v1", "kind": "Eviction",
             "verbs": ["create"]},
            {"name": "pods/binding", **base, "kind": "Binding", "verbs": ["create"]},
        ]  # fmt: skip
    return found


def resources(kinds: Kinds, group_name: str, version: str) -> Json | None:
    """Return the kinds of one group and version; None: there is no such."""
    found: list[Json] = []
    for kind in kinds.all():
        if (kind.group, kind.version) != (group_name, version):
            continue
        entry: Json = {
            "name": kind.plural,
            "singularName": kind.singular or kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs or VERBS),
        }
        if kind.short:
            entry["shortNames"] = list(kind.short)
        found += [entry, *_subresources(kind)]
    if not found:
        return None
    name = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": found}
