"""The Kubernetes cluster that the coordinator itself runs on: the adapter's client behind our own port.

Imported only where the document asks for it: the client is of the extra ``kubernetes``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from heteroscale_coordinator.config import ClusterSettings
from heteroscale_coordinator.edge.cluster_api import (
    Address,
    ApiError,
    ChangedError,
    ExpiredError,
    NotThereError,
    Object,
)
from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.connect import configuration
from heteroscale_scheduler_adapters.kubernetes.errors import (
    ConflictError,
    ExistsError,
    GoneError,
    NotFoundError,
)
from heteroscale_scheduler_adapters.kubernetes.resources import Resource
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.port import AdapterError

WATCH_S = 300.0
GONE = 410


class KubernetesApi:
    """Behind ``cluster_api.ClusterApi``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, at: Address) -> Object:
        """Return one object."""
        with _told():
            return await self._client.get(
                _resource(at), at.name, at.namespace, subresource=at.subresource
            )

    async def list(self, at: Address) -> tuple[list[Object], str]:
        """Return all objects, and the revision to watch from."""
        with _told():
            found = await self._client.list(_resource(at), at.namespace)
        return list(found.items), found.revision

    async def watch(self, at: Address, revision: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield what changes, until the server ends the watch."""
        with _told():
            async with self._client.stream(
                _resource(at), at.namespace, revision=revision, seconds=WATCH_S
            ) as lines:
                async for line in lines:
                    if line.strip():
                        yield _event(line)

    async def create(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Create an object."""
        with _told():
            return await self._client.create(_resource(at), dict(thing), at.namespace)

    async def replace(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Write an object whole."""
        with _told():
            return await self._client.replace(_resource(at), dict(thing))

    async def patch(self, at: Address, change: Mapping[str, Any]) -> Object:
        """Lay a merge patch over it."""
        with _told():
            return await self._client.patch(
                _resource(at), at.name, at.namespace, dict(change), subresource=at.subresource
            )

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()


async def connect(settings: ClusterSettings) -> KubernetesApi:
    """Return the API server of the settings, not yet asked anything.

    Raises:
        ApiError: no login is there, or it cannot be read; the text names what would help.

    """
    asked = KubernetesSettings(
        kubeconfig=None if settings.kubeconfig is None else str(settings.kubeconfig),
        context=settings.context,
    )
    with _told():
        return KubernetesApi(Client(await configuration(asked), asked.requests))


def _resource(at: Address) -> Resource:
    return Resource(at.api_version, at.plural, at.kind)


def _event(line: bytes) -> tuple[str, Object]:
    try:
        told = json.loads(line)
        what, thing = str(told["type"]), told["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(f"a watch said what is no event: {line[:80]!r}") from error
    if what == "ERROR":
        text = f"the watch ended: {thing.get('message') or thing}"
        raise ExpiredError(text) if thing.get("code") == GONE else ApiError(text)
    return what, thing


@contextmanager
def _told() -> Iterator[None]:
    """Say the client's errors in our own words; their text is kept."""
    try:
        yield
    except NotFoundError as error:
        raise NotThereError(str(error)) from error
    except (ConflictError, ExistsError) as error:
        raise ChangedError(str(error)) from error
    except GoneError as error:
        raise ExpiredError(str(error)) from error
    except (AdapterError, OSError) as error:
        raise ApiError(str(error) or type(error).__name__) from error
