"""Who may do what: tokens, and the roles and bindings that the server itself keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.kubernetes.server.calls import ADMIN, Call, Shared
from tests.kubernetes.server.errors import Json, StatusError, forbidden
from tests.kubernetes.server.store import Table

_GROUP = "rbac.authorization.k8s.io"
CLUSTER_BINDINGS: Table = (_GROUP, "clusterrolebindings")
BINDINGS: Table = (_GROUP, "rolebindings")
_ACCOUNT = "system:serviceaccount:"


@dataclass
class Users:
    """Tokens and whose they are. ``system:masters`` may do all."""

    tokens: dict[str, str] = field(default_factory=dict)

    def of(self, header: str) -> str:
        """Return the user of an ``Authorization`` header.

        Raises:
            StatusError: 401 for a token of nobody.

        """
        kind, _, token = header.partition(" ")
        if not header:
            return "system:anonymous"
        if kind.lower() != "bearer" or token.strip() not in self.tokens:
            raise StatusError(401, "Unauthorized")
        return self.tokens[token.strip()]


def groups(user: str) -> set[str]:
    """Return the groups of a user."""
    if user == "system:anonymous":
        return {"system:unauthenticated"}
    found = {"system:authenticated"}
    if user == ADMIN:
        found.add("system:masters")
    if user.startswith(_ACCOUNT):
        found |= {"system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}"}
    return found


def verb(method: str, call: Call, *, watch: bool) -> str:
    """Return the verb of a request in the words of roles."""
    if method == "GET":
        one = "get" if call.name else "list"
        return "watch" if watch else one
    if method == "DELETE":
        return "delete" if call.name else "deletecollection"
    return {"POST": "create", "PUT": "update"}.get(method, method.lower())


def check(shared: Shared, call: Call, wanted: str) -> None:
    """Refuse what no role allows.

    Raises:
        StatusError: 403.

    """
    resource = f"{call.kind.plural}/{call.sub}" if call.sub else call.kind.plural
    deed = Deed(wanted, call.kind.group, resource, call.namespace, call.name)
    if allowed(shared, call.user, deed):
        return
    scope = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
    raise forbidden(
        call.kind.plural, call.kind.group, call.name,
        f'User "{call.user}" cannot {wanted} resource "{resource}" in API group '
        f'"{call.kind.group}" {scope}',
    )  # fmt: skip


@dataclass(frozen=True)
class Deed:
    """What somebody wants to do, in the words of roles."""

    verb: str
    group: str
    resource: str
    """With its subresource: ``pods/eviction``."""
    namespace: str = ""
    name: str = ""


def allowed(shared: Shared, user: str, deed: Deed) -> bool:
    """Tell whether a role lets ``user`` do it."""
    if "system:masters" in groups(user):
        return True
    if deed.group == "authorization.k8s.io" and deed.resource.startswith("selfsubject"):
        return "system:authenticated" in groups(user)
    return any(_grants(rule, deed) for rule in rules(shared, user, deed.namespace))


def rules(shared: Shared, user: str, namespace: str) -> Iterator[Json]:
    """Yield the rules that hold for ``user`` in a namespace (empty: in the whole cluster)."""
    for binding in shared.store.peek(CLUSTER_BINDINGS):
        if _means(binding, user):
            yield from _of(shared, binding, "")
    for binding in shared.store.peek(BINDINGS) if namespace else ():
        if binding["metadata"]["namespace"] == namespace and _means(binding, user):
            yield from _of(shared, binding, namespace)


def _means(binding: Json, user: str) -> bool:
    home = binding["metadata"].get("namespace", "")
    for one in binding.get("subjects") or []:
        match one["kind"]:
            case "ServiceAccount":
                if user == f"{_ACCOUNT}{one.get('namespace', home)}:{one['name']}":
                    return True
            case "User":
                if user == one["name"]:
                    return True
            case "Group":
                if one["name"] in groups(user):
                    return True
            case _:
                pass
    return False


def _of(shared: Shared, binding: Json, namespace: str) -> list[Json]:
    ref = binding["roleRef"]
    plural = "clusterroles" if ref["kind"] == "ClusterRole" else "roles"
    key = ("" if ref["kind"] == "ClusterRole" else namespace, ref["name"])
    role = shared.store.get((_GROUP, plural), key)
    return list((role or {}).get("rules") or [])


def _grants(rule: Json, deed: Deed) -> bool:
    resource = deed.resource
    sub = resource.partition("/")[2]
    resources = rule.get("resources") or []
    named = rule.get("resourceNames") or []
    return (
        bool({deed.verb, "*"} & set(rule.get("verbs") or []))
        and bool({deed.group, "*"} & set(rule.get("apiGroups") or []))
        and (resource in resources or "*" in resources or (bool(sub) and f"*/{sub}" in resources))
        and (not named or deed.name in named)
    )


def review(shared: Shared, user: str, given: Json) -> Json:
    """Answer a SelfSubjectAccessReview."""
    asked = (given.get("spec") or {}).get("resourceAttributes") or {}
    resource = asked.get("resource", "")
    if asked.get("subresource"):
        resource += f"/{asked['subresource']}"
    deed = Deed(
        asked.get("verb", ""), asked.get("group", ""), resource,
        asked.get("namespace", ""), asked.get("name", ""),
    )  # fmt: skip
    fine = allowed(shared, user, deed)
    return {**given, "metadata": {}, "status": {"allowed": fine}}


def rules_review(shared: Shared, user: str, given: Json) -> Json:
    """Answer a SelfSubjectRulesReview."""
    namespace = (given.get("spec") or {}).get("namespace", "")
    found = list(rules(shared, user, namespace))
    if "system:masters" in groups(user):
        found.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    status = {"resourceRules": found, "nonResourceRules": [], "incomplete": False}
    return {**given, "metadata": {}, "status": status}
