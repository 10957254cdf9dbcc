"""What the real server fills in, so that whoever compares what it sent with what is there sees it too."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubernetes.server.errors import Json


def _container(one: Json) -> None:
    image = one.get("image", "")
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    latest = "@" not in image and tag in {"", "latest"}
    one.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    one.setdefault("terminationMessagePath", "/dev/termination-log")
    one.setdefault("terminationMessagePolicy", "File")
    resources = one.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    for port in one.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for env in one.get("env") or []:
        ref = (env.get("valueFrom") or {}).get("fieldRef")
        if ref:
            ref.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in one:
            _probe(one[name])
    hook = ((one.get("lifecycle") or {}).get("preStop") or {}).get("httpGet")
    if hook:
        _http(hook)


def _http(action: Json) -> None:
    action.setdefault("path", "/")
    action.setdefault("scheme", "HTTP")


def _probe(probe: Json) -> None:
    for key, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe.setdefault(key, value)
    if "httpGet" in probe:
        _http(probe["httpGet"])


def _volume(one: Json) -> None:
    for name, mode in (("configMap", 420), ("secret", 420), ("projected", 420)):
        if name in one:
            one[name].setdefault("defaultMode", mode)
    if "hostPath" in one:
        one["hostPath"].setdefault("type", "")
    if set(one) == {"name"}:
        one["emptyDir"] = {}


def pod_spec(spec: Json) -> None:
    """Fill in a pod's specification, or that of a template."""
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
    ):
        spec.setdefault(key, value)
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        _container(one)
        if spec.get("hostNetwork"):
            for port in one.get("ports") or []:
                port.setdefault("hostPort", port.get("containerPort"))
    for one in spec.get("volumes") or []:
        _volume(one)


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    if isinstance(template.get("spec"), dict):
        pod_spec(template["spec"])


def _pod(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)


def _deployment(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    _template(spec)


def _replica_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)


def _stateful_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("serviceName", "")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault(
        "persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"}
    )
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _template(spec)


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    if spec["type"] != "ExternalName":
        spec.setdefault("clusterIP", "10.96.0.2")
        spec.setdefault("clusterIPs", [spec["clusterIP"]])


def _autoscaler(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("minReplicas", 1)


def _definition(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("conversion", {"strategy": "None"})
    names = spec.get("names") or {}
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")


def _role_binding(obj: Json) -> None:
    ref = obj.get("roleRef") or {}
    ref.setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or []:
        group = "" if subject.get("kind") == "ServiceAccount" else "rbac.authorization.k8s.io"
        if group:
            subject.setdefault("apiGroup", group)


def _node(obj: Json) -> None:
    status = obj.get("status") or {}
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


_DEFAULTS: dict[str, Callable[[Json], None]] = {
    "Pod": _pod,
    "Node": _node,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "DaemonSet": lambda obj: _template(obj.setdefault("spec", {})),
    "Service": _service,
    "Secret": lambda obj: obj.setdefault("type", "Opaque"),
    "HorizontalPodAutoscaler": _autoscaler,
    "CustomResourceDefinition": _definition,
    "RoleBinding": _role_binding,
    "ClusterRoleBinding": _role_binding,
}


def fill(kind: str, obj: Json) -> None:
    """Fill in an object of a built-in kind, in place."""
    if kind in _DEFAULTS:
        _DEFAULTS[kind](obj)
