"""What stands between a request and the rules: namespaces, service accounts, quotas."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tests.kubernetes.server.calls import Call, Shared
from tests.kubernetes.server.errors import Json, forbidden, not_found
from tests.kubernetes.server.store import Table
from tests.kubernetes.server.validate.quantities import amount, plain

NAMESPACES: Table = ("", "namespaces")
PODS: Table = ("", "pods")
QUOTAS: Table = ("", "resourcequotas")
ACCOUNTS: Table = ("", "serviceaccounts")
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def admit(shared: Shared, call: Call, obj: Json, old: Json | None = None) -> None:
    """Let an object in, changed where the real server changes it.

    Raises:
        StatusError: 403 or 404.

    """
    if old is not None:
        return
    if call.kind.namespaced:
        _namespace(shared, call, obj)
    if call.kind.table == PODS:
        _account(shared, call, obj)
        _tolerate(obj)
        _priority(obj)
        _quota(shared, call, obj)


def _namespace(shared: Shared, call: Call, obj: Json) -> None:
    space = shared.store.get(NAMESPACES, ("", call.namespace))
    if space is None:
        raise not_found("namespaces", "", call.namespace)
    if space["metadata"].get("deletionTimestamp"):
        error = forbidden(
            call.kind.plural, call.kind.group, obj["metadata"].get("name", ""),
            f"unable to create new content in namespace {call.namespace} because it is being terminated",
        )  # fmt: skip
        error.details["causes"] = [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {call.namespace} is being terminated",
                "field": "metadata.namespace",
            }
        ]
        raise error


def _account(shared: Shared, call: Call, obj: Json) -> None:
    spec = obj["spec"]
    name = spec.get("serviceAccountName") or "default"
    if shared.store.get(ACCOUNTS, (call.namespace, name)) is None:
        raise forbidden(
            "pods", "", obj["metadata"].get("name", ""),
            f"error looking up service account {call.namespace}/{name}: "
            f'serviceaccount "{name}" not found',
        )  # fmt: skip
    spec["serviceAccountName"] = spec["serviceAccount"] = name


def _tolerate(obj: Json) -> None:
    """Every pod tolerates a node that is away for five minutes, unless it says otherwise."""
    given = obj["spec"].setdefault("tolerations", [])
    for key in _TOLERATED:
        if not any(one.get("key") in {key, None} for one in given):
            given.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            )


def _priority(obj: Json) -> None:
    obj["spec"].setdefault("priority", 0)
    obj["spec"].setdefault("preemptionPolicy", "PreemptLowerPriority")


def requests(pod: Json) -> dict[str, Decimal]:
    """Return what a pod takes of a quota or of a node: the sum over its containers."""
    total: dict[str, Decimal] = {"pods": Decimal(1)}
    for one in (pod.get("spec") or {}).get("containers") or []:
        resources = one.get("resources") or {}
        for prefix in ("limits", "requests"):
            for name, text in (resources.get(prefix) or {}).items():
                key = f"{prefix}.{name}"
                total[key] = total.get(key, Decimal(0)) + amount(text)
                if prefix == "requests" and "/" not in name:
                    total[name] = total.get(name, Decimal(0)) + amount(text)
    total["count/pods"] = Decimal(1)
    return total


def ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def usage(shared: Shared, namespace: str) -> dict[str, Decimal]:
    """Return what the pods of a namespace take in all; those that have ended take nothing."""
    total: dict[str, Decimal] = {}
    for pod in shared.store.peek(PODS):
        if pod["metadata"]["namespace"] == namespace and not ended(pod):
            for name, number in requests(pod).items():
                total[name] = total.get(name, Decimal(0)) + number
    return total


def _quotas(shared: Shared, namespace: str) -> Iterator[Json]:
    for quota in shared.store.peek(QUOTAS):
        if quota["metadata"]["namespace"] == namespace:
            yield quota


_MUST_SAY = {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}


def _quota(shared: Shared, call: Call, obj: Json) -> None:
    """Refuse a pod that a quota has no room for."""
    wanted = requests(obj)
    used = usage(shared, call.namespace)
    name = obj["metadata"].get("name", "")
    for quota in _quotas(shared, call.namespace):
        # As the real one does, by what its controller has taken note of.
        told = (quota.get("status") or {}).get("hard") or {}
        hard = {key: amount(text) for key, text in told.items()}
        title = quota["metadata"]["name"]
        if missing := sorted(set(hard) & _MUST_SAY - set(wanted)):
            who = ",".join(one["name"] for one in obj["spec"].get("containers") or [])
            why = f"failed quota: {title}: must specify {','.join(missing)} for: {who}"
            raise forbidden("pods", "", name, why)
        over = [
            key for key in sorted(hard)
            if key in wanted and used.get(key, Decimal(0)) + wanted[key] > hard[key]
        ]  # fmt: skip
        if over:
            said = [
                ",".join(f"{key}={plain(figures.get(key, Decimal(0)))}" for key in over)
                for figures in (wanted, used, hard)
            ]
            why = "exceeded quota: {}, requested: {}, used: {}, limited: {}".format(title, *said)
            raise forbidden("pods", "", name, why)
