"""Asks an API server: each call has a deadline and its turn; errors say verb, object, missing right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kubernetes_asyncio.client.configuration import Configuration

from heteroscale_scheduler_adapters.kubernetes import names, objects
from heteroscale_scheduler_adapters.kubernetes.errors import (
    Ask,
    GoneError,
    NotFoundError,
)
from heteroscale_scheduler_adapters.kubernetes.resources import KNOWN, PODS, Object, Resource
from heteroscale_scheduler_adapters.kubernetes.settings import RequestSettings
from heteroscale_scheduler_adapters.kubernetes.wire import Request, Wire, lines
from heteroscale_scheduler_adapters.port import UnavailableError

_PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
Patch = Literal["merge", "strategic", "json", "apply"]
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole list, as it was at one moment."""

    items: tuple[Object, ...]
    revision: str


class Client:
    """One API server; it keeps connections. Each method raises the errors of `errors` and of the port."""

    def __init__(self, configuration: Configuration, settings: RequestSettings) -> None:
        self._settings = settings
        self._wire = Wire(configuration, settings)
        self._kinds: dict[tuple[str, str], Resource] = dict(KNOWN)

    async def close(self) -> None:
        """Let go of connections."""
        await self._wire.close()

    # ---- reading -----------------------------------------------------------------------------------

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object:
        """Return one object, or its ``subresource``: ``scale``, ``status``."""
        return await self.call("GET", resource, name, namespace, subresource=subresource)

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        """Return all objects, read in pages; a list whose pages ran out is begun anew, once.

        All pages are of one moment. Raises what `call` raises; never returns a part.
        """
        async with self._wire.deadline(
            Ask("list", resource.rbac, "", namespace), self._settings.list_timeout
        ):
            try:
                return await self._pages(resource, namespace, labels, fields)
            except GoneError:
                pass
            try:
                return await self._pages(resource, namespace, labels, fields)
            except GoneError as error:
                raise UnavailableError(f"{error}; twice, while its pages were read") from error

    async def _pages(self, resource: Resource, namespace: str, labels: str, fields: str) -> Listing:
        found: list[Object] = []
        query = {"limit": str(self._settings.page_size)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self.call("GET", resource, "", namespace, query=query, verb="list")
            found.extend(objects.items(page, "items"))
            more = objects.text(page, "metadata", "continue")
            if not more:
                return Listing(tuple(found), objects.revision(page))
            query["continue"] = more

    async def resource(self, api_version: str, kind: str) -> Resource:
        """Return the address of a kind, asking the server once.

        Raises:
            NotFoundError: the server has no such kind.

        """
        known = self._kinds.get((api_version, kind))
        if known is not None:
            return known
        root = "/apis/" if "/" in api_version else "/api/"
        ask = Ask("get", f"{kind} ({api_version})")
        try:
            told = await self._wire.asked(Request(ask, "GET", root + api_version, {}))
        except NotFoundError:
            told = {}
        kinds = objects.items(told, "resources")
        scaled = {
            objects.text(one, "name").partition("/")[0]
            for one in kinds
            if objects.text(one, "name").endswith("/scale")
        }
        for one in kinds:
            plural = objects.text(one, "name")
            if objects.text(one, "kind") == kind and "/" not in plural:
                found = Resource(
                    api_version, plural, kind, bool(one.get("namespaced")), plural in scaled
                )
                self._kinds[api_version, kind] = found
                return found
        raise NotFoundError(
            f"the cluster has no kind {kind} of {api_version}: is its CustomResourceDefinition installed?"
        )

    @asynccontextmanager
    async def stream(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        revision: str,
        labels: str = "",
        fields: str = "",
        seconds: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch from ``revision`` for ``seconds``, and give its lines.

        A line that does not come within ``stall`` raises TimeoutError.
        """
        ask = Ask("watch", resource.rbac, "", namespace)
        query = {
            "watch": "true",
            "resourceVersion": revision,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(seconds)),
        }
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        async with self._wire.deadline(ask, self._settings.timeout):
            answer = await self._wire.send(
                Request(ask, "GET", resource.path(namespace), query), endless=True
            )
        try:
            yield lines(answer, self._settings.stall)
        finally:
            answer.close()

    # ---- changing ----------------------------------------------------------------------------------

    async def create(
        self,
        resource: Resource,
        thing: Object,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Create an object, or a ``subresource`` of the one called ``name``, as ``eviction`` is."""
        query = {"dryRun": "All"} if dry_run else {}
        query |= {} if subresource else {"fieldManager": names.MANAGER}
        return await self.call(
            "POST", resource, name, namespace, subresource=subresource, query=query, body=thing
        )

    async def apply(
        self,
        resource: Resource,
        thing: Object,
        *,
        force: bool = False,
        subresource: str = "",
        manager: str = names.MANAGER,
        dry_run: bool = False,
    ) -> Object:
        """Apply on the server what we own of an object. ConflictError: another manager owns a field."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        query |= {"dryRun": "All"} if dry_run else {}
        return await self.call(
            "PATCH",
            resource,
            objects.name(thing),
            objects.namespace(thing),
            subresource=subresource,
            query=query,
            body=thing,
            content=_PATCHES["apply"],
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        change: Any,
        *,
        kind: Patch = "merge",
        subresource: str = "",
        manager: str = names.MANAGER,
    ) -> Object:
        """Change parts of an object; with ``resourceVersion`` in its metadata, only if still that."""
        return await self.call(
            "PATCH",
            resource,
            name,
            namespace,
            subresource=subresource,
            query={"fieldManager": manager},
            body=change,
            content=_PATCHES[kind],
        )

    async def replace(
        self,
        resource: Resource,
        thing: Object,
        *,
        subresource: str = "",
        manager: str = names.MANAGER,
    ) -> Object:
        """Replace an object, if its resource version is still the one in ``thing``."""
        return await self.call(
            "PUT",
            resource,
            objects.name(thing),
            objects.namespace(thing),
            subresource=subresource,
            query={"fieldManager": manager},
            body=thing,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace: float | None = None,
        uid: str = "",
        propagation: str = "Background",
    ) -> bool:
        """Delete an object; False if it is not there. ConflictError: it bears another uid by now."""
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if grace is not None:
            options["gracePeriodSeconds"] = int(grace)
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self.call("DELETE", resource, name, namespace, body=options)
        except NotFoundError:
            return False
        return True

    async def evict(
        self, name: str, namespace: str, *, grace: float | None = None, dry_run: bool = False
    ) -> None:
        """Evict a pod. BudgetError: a disruption budget forbids it now; it is not asked again here."""
        wish: Object = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
        }
        options: Object = {} if grace is None else {"gracePeriodSeconds": int(grace)}
        options |= {"dryRun": ["All"]} if dry_run else {}
        if options:
            wish["deleteOptions"] = options
        ask = Ask("create", "pods/eviction", name, namespace)
        async with self._wire.deadline(ask, self._settings.timeout):
            path = PODS.path(namespace, name, "eviction")
            answer = await self._wire.send(Request(ask, "POST", path, {}, wish), patient=False)
            answer.release()

    # ---- one call ----------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        resource: Resource,
        name: str = "",
        namespace: str = "",
        *,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "",
        verb: str = "",
    ) -> Object:
        """Ask once, within the deadline; turned away with 429, again when the server said."""
        rbac = resource.rbac
        if subresource:
            plural, dot, group = rbac.partition(".")
            rbac = f"{plural}/{subresource}{dot}{group}"
        ask = Ask(verb or _VERBS[method], rbac, name, namespace)
        path = resource.path(namespace, name, subresource)
        content = content or "application/json"
        return await self._wire.asked(Request(ask, method, path, query or {}, body, content))
