"""The Kubernetes API as far as a host needs it: get JSON, with the service account of its pod.

No client library: two GETs do, through the exchange that everything else here uses.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from heteroscale.words import WITHIN
from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.probes.kube_account import Account
from heteroscale_agent.probes.source import SourceError, Thread

MAX_ANSWER = 8 * 1024 * 1024
PAGE = 50
"""Pods in one answer: a node's may be 250, of 20 KB each."""
MAX_PAGES = 40
_OK = 200
_HINTS = {
    401: "the API server does not take the token of kubernetes.tokenFile",
    403: "the service account may not read this: it needs the ClusterRole of docs/agent.md",
    404: "not there: is kubernetes.nodeName (or NODE_NAME) this node's name?",
    410: "the list changed while it was read",
    429: "the API server is busy",
}
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""A tenth of a node's size; a server that does not know it sends the whole object."""


class KubernetesApi:
    """GETs of one API server."""

    def __init__(self, access: KubernetesAccess, environ: Mapping[str, str]) -> None:
        self._thread = Thread("kubernetes")
        self._account = Account(access, environ)
        self.server = self._account.server
        self.node_name = node_name(access, environ)

    async def get(
        self, path: str, deadline: float, accept: str = "application/json"
    ) -> dict[str, Any]:
        """Return the JSON object at ``path``.

        Raises:
            SourceError: there is no server, it refuses, is late, or its answer is no use.

        """
        if not self.server:
            raise SourceError("not in a pod: set kubernetes.apiServer, tokenFile and caFile")
        token, tls = await self._thread.call(self._account.secrets, deadline)
        headers = (("Accept", accept), ("Authorization", f"Bearer {token}"))
        try:
            status, body = await exchange(
                "GET",
                self.server + path,
                deadline=deadline,
                limit=MAX_ANSWER,
                headers=headers,
                tls=tls,
            )
        except ExchangeError as error:
            raise SourceError(f"{self.server}: {error}") from error
        if status != _OK:
            where = path.partition("?")[0]
            raise SourceError(f"HTTP {status} for {where}: {_HINTS.get(status, 'unexpected')}")
        return _object(body)

    async def node(self, deadline: float) -> dict[str, Any]:
        """Return this node's object, or its metadata alone. Raises SourceError."""
        path = f"/api/v1/nodes/{quote(self.node_name, safe='')}"
        return await self.get(path, deadline, METADATA_ONLY)

    async def pods(
        self, selector: str, namespace: str, deadline: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the pods of this node that the label ``selector`` picks. Raises SourceError."""
        base = f"/api/v1/namespaces/{quote(namespace, safe='')}" if namespace else "/api/v1"
        query = {"fieldSelector": f"spec.nodeName={self.node_name}", "limit": str(PAGE)}
        if selector:
            query["labelSelector"] = selector
        for _ in range(MAX_PAGES):
            page = await self.get(f"{base}/pods?{urlencode(query)}", deadline)
            items = page.get("items")
            for pod in items if isinstance(items, list) else ():
                if isinstance(pod, dict):
                    yield pod
            metadata = page.get("metadata")
            more = metadata.get("continue") if isinstance(metadata, dict) else None
            if not isinstance(more, str) or not more:
                return
            query["continue"] = more
        raise SourceError(f"more than {PAGE * MAX_PAGES} pods on this node")

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.close()


def node_name(access: KubernetesAccess, environ: Mapping[str, str]) -> str:
    """Return what this node is called in its cluster."""
    return access.node_name or environ.get("NODE_NAME", "") or os.uname().nodename


def within(access: KubernetesAccess, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the label that says in which node of which adapter's cluster this host is; empty: none."""
    if not access.cluster:
        return {}
    return {WITHIN: f"{access.cluster}/{node_name(access, environ)}"}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise SourceError("the answer is no JSON") from None
    if not isinstance(value, dict):
        raise SourceError("the answer is no JSON object")
    return value
