"""The gate of Kubernetes: a label on the pod. Selectors that ask for it let traffic in.

llm-d's InferencePool, a Service, any selector: dropping the label takes the pod out and leaves it
running; putting it back lets it in. `gate.options`: `key` (default llm-d's), `value` when in
(`true`), `outValue` when out (default: no label), and `pod` as NAME or NAMESPACE/NAME where neither the
instance's origin nor the agent itself says: a service's spec cannot point an agent at another pod than
its own. Each pass reads the pod: what it wears is what is told.

Never the label that the pod's own controller selects by: a ReplicaSet that misses it lets the pod go
and starts another. A pod with such an owner whose `pod-template-hash` is the key is refused.
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from heteroscale_agent.config.gates import Pods
from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.shared import Desk
from heteroscale_agent.hands.http import Client, HttpError, exchange, parse_object
from heteroscale_agent.probes.kube_account import Account
from heteroscale_agent.probes.source import SourceError

KEY, VALUE = "llm-d.ai/inference-serving", "true"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
ORIGIN = "pod/"
MAX_POD_BYTES = 4 * 1024 * 1024
_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_OWNERS_KEYS = frozenset({"pod-template-hash", "controller-revision-hash"})


class LabelsGate:
    """Puts a label on pods and takes it off."""

    def __init__(self, access: KubernetesAccess, pods: Pods, http: Client) -> None:
        self._account = Account(access, os.environ)
        self._pods = pods
        self._http = http
        self._desk = Desk()

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the label, or which pod nobody names, or nothing."""
        options = member.gate.options
        key = options.get("key", KEY)
        if not _KEY.fullmatch(key) or key in _OWNERS_KEYS:
            return f"gate labels cannot use the key {key[:80]!r}"
        for name in ("value", "outValue"):
            if name in options and not _VALUE.fullmatch(options[name]):
                return f"gate labels: {name} {options[name][:80]!r} is no value of a label"
        if options.get("outValue") == options.get("value", VALUE):
            return "gate labels: value and outValue are the same"
        if not self._account.server:
            return "gate labels needs kubernetes.apiServer, or to run in a pod"
        try:
            self._pod(member)
        except HttpError as error:
            return f"gate labels: {error}"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Read the pod, patch it where it differs; what it wore before is returned."""
        place = "pod"
        try:
            namespace, name = self._pod(member)
            place = f"pod/{namespace}/{name}"
            return View({place: await self._compare(namespace, name, member, wanted_in=wanted_in)})
        except (HttpError, SourceError, OSError) as error:
            return View({place: None}, f"{place}: {error}"[:300])

    async def close(self) -> None:
        """Let go of the thread; labels stay as they are."""
        self._desk.close()

    async def _compare(
        self, namespace: str, name: str, member: Member, *, wanted_in: bool
    ) -> bool | None:
        options = member.gate.options
        key, value = options.get("key", KEY), options.get("value", VALUE)
        url = f"{self._account.server}/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"
        pod = await self._ask("GET", url)
        if pod is None:
            # Nobody is sent to a pod that is gone; whether it ever comes is not for a gate to say.
            return False
        worn = _labels(pod).get(key)
        wanted = value if wanted_in else options.get("outValue")
        if worn != wanted:
            # The uid makes it this very pod: a StatefulSet's next one has the same name.
            meta = {"labels": {key: wanted}, "uid": _uid(pod)}
            await self._ask("PATCH", url, {"metadata": meta})
        if worn == value:
            return True
        return False if worn == options.get("outValue") else None

    async def _ask(self, method: str, url: str, patch: object = None) -> dict[str, Any] | None:
        token, tls = await self._desk.do("account", self._account.secrets, self._pods.timeout)
        headers = [("Authorization", f"Bearer {token}")]
        if patch is not None:
            headers.append(("Content-Type", "application/merge-patch+json"))
        status, data = await exchange(
            self._http,
            method,
            url,
            deadline=self._pods.timeout,
            body=patch,
            limit=MAX_POD_BYTES,
            headers=headers,
            tls=tls,
        )
        if status == HTTPStatus.NOT_FOUND:
            _check_missing(data)
            return None
        if status != HTTPStatus.OK:
            raise HttpError(f"HTTP {status} to {method}: {_reason(data)}")
        return parse_object(data)

    def _pod(self, member: Member) -> tuple[str, str]:
        """Return namespace and name of the pod; what a command says comes last."""
        told = member.origin.removeprefix(ORIGIN) if member.origin.startswith(ORIGIN) else ""
        named = told or self._pods.pod or os.environ.get("POD_NAME", "")
        named = named or member.gate.options.get("pod", "")
        namespace, _, name = named.rpartition("/")
        namespace = namespace or self._pods.namespace or _own_namespace()
        if not _NAME.fullmatch(name) or not _NAME.fullmatch(namespace):
            raise HttpError(f"no pod is named for {member.instance_id} (POD_NAME, or option `pod`)")
        return namespace, name


def _labels(pod: dict[str, Any]) -> dict[str, Any]:
    meta = pod.get("metadata")
    labels = meta.get("labels") if isinstance(meta, dict) else None
    if pod.get("kind") != "Pod" or not isinstance(meta, dict):
        raise HttpError("the answer is no Pod")
    return labels if isinstance(labels, dict) else {}


def _uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("uid", ""))


def _check_missing(data: bytes) -> None:
    """Pass only where the API server itself says that the pod is not there; else it is unknown."""
    told = parse_object(data)
    if told.get("kind") != "Status" or told.get("reason") != "NotFound":
        raise HttpError("HTTP 404 from something that is no API server")


def _reason(data: bytes) -> str:
    try:
        return str(parse_object(data).get("message", ""))[:160]
    except HttpError:
        return data[:80].decode("utf-8", errors="replace")


def _own_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return "default"
