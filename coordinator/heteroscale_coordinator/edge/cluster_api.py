"""What the coordinator asks of the Kubernetes API server that it runs on: a lease, its objects, events.

The client of the Kubernetes adapter stands behind it; whoever wires the coordinator puts it there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]
"""An object as JSON has it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A kind of objects, one of them, or a subresource of it."""

    api_version: str
    """``coordination.k8s.io/v1``, ``v1``."""
    kind: str
    plural: str
    namespace: str = ""
    """Empty, in a list: all namespaces."""
    name: str = ""
    subresource: str = ""


class ApiError(Exception):
    """The API server did not do it, or nobody knows whether it did; the text names the object."""


class NotThereError(ApiError):
    """There is no such object."""


class ChangedError(ApiError):
    """It is not as it was read any more, or is there already: read it, and try anew."""


class ExpiredError(ApiError):
    """A watch cannot go on from where it was: list anew."""


class ClusterApi(Protocol):
    """Calls have deadlines of their own, and raise ApiError."""

    async def get(self, at: Address) -> Object:
        """Return one object. NotThereError: there is none."""
        ...

    async def list(self, at: Address) -> tuple[list[Object], str]:
        """Return all objects of a kind, and the revision to watch from."""
        ...

    def watch(self, at: Address, revision: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield (ADDED, MODIFIED, DELETED or BOOKMARK; the object) until the connection ends."""
        ...

    async def create(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Create an object. ChangedError: it is there."""
        ...

    async def replace(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Write an object whole. ChangedError: its ``resourceVersion`` is not the present one."""
        ...

    async def patch(self, at: Address, change: Mapping[str, Any]) -> Object:
        """Lay a merge patch over it. ChangedError: it names a ``resourceVersion`` that has passed."""
        ...
