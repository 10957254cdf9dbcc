"""How the lists and maps of built-in kinds merge: what a patch, and an apply, need to know.

Taken from ``patchMergeKey``, ``listType`` and ``listMapKeys`` of the API's Go types. A list that is
not named here is replaced as a whole.
"""

from __future__ import annotations

STRATEGIC: dict[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name",
    "resourceClaims": "name",
    "conditions": "type",
    "podIPs": "ip",
    "hostIPs": "ip",
    "addresses": "type",
    "ownerReferences": "uid",
    "secrets": "name",
}
"""List to the key that strategic merge goes by."""

PRIMITIVE_SETS = frozenset({"finalizers", "podCIDRs"})
"""Lists of plain values that strategic merge joins, and that an apply owns value by value."""

APPLY: dict[str, tuple[str, ...]] = {
    **{name: (key,) for name, key in STRATEGIC.items()},
    "ports": ("containerPort", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""List to the keys by which an apply tells its items apart."""

SERVICE_PORTS = ("port", "protocol")

ATOMIC_MAPS = frozenset({"selector", "nodeSelector", "labelSelector", "nodeSelectorTerms"})
"""Maps that are owned as a whole."""

DEFAULT_KEYS = {"protocol": "TCP"}
"""Keys that the server fills in before it compares."""


def strategic_key(kind: str, name: str) -> str | None:
    """Return the merge key of a list of built-in ``kind``; None: it is replaced."""
    if kind == "Service" and name == "ports":
        return "port"
    return STRATEGIC.get(name)


def apply_keys(kind: str, name: str) -> tuple[str, ...] | None:
    if kind == "Service" and name == "ports":
        return SERVICE_PORTS
    return APPLY.get(name)
