"""A cluster in the hands of a test: our small server, or whichever KUBECONFIG names.

Whatever a test makes has a random suffix and is removed at its end, so that tests share a cluster.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from tests.kubernetes import reach
from tests.kubernetes.server.serve import ApiServer

Json = dict[str, Any]
T = TypeVar("T")
LONG = 60.0
"""Seconds that anything may take before a test gives up."""
TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_APPLY = "application/apply-patch+yaml"


def path_of(
    api_version: str, plural: str, namespace: str = "", name: str = "", sub: str = ""
) -> str:
    """Return the path of a resource."""
    parts = ["apis" if "/" in api_version else "api", api_version]
    parts += ["namespaces", namespace] if namespace else []
    return "/" + "/".join(one for one in [*parts, plural, name, sub] if one)


class Refused(Exception):  # noqa: N818 - it is what the server says, and tests look at it
    """The server said no."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url}: {answer.text}")
        self.code = answer.status_code
        self.headers = answer.headers
        try:
            self.status: Json = answer.json()
        except ValueError:
            self.status = {"message": answer.text}

    @property
    def message(self) -> str:
        return str(self.status.get("message"))


class Kube:
    """One test's place in a cluster: a namespace and nodes of its own. Calls block; all are quick."""

    def __init__(self, config: Path, server: ApiServer | None = None) -> None:
        self.config = config
        """Path of a kubeconfig whose user may do all."""
        self.server = server
        """Ours, for faults and the like; None: a cluster that is not."""
        self.reach = reach.read(config)
        self.http = self.reach.client()
        self.suffix = secrets.token_hex(4)
        self.namespace = f"hs-{self.suffix}"
        self._cluster_wide: list[str] = []

    @property
    def url(self) -> str:
        return self.reach.url

    @property
    def token(self) -> str:
        return self.reach.token

    def open(self) -> Kube:
        """Make the namespace, and wait until pods are let in."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.until(lambda: self.find("v1", "serviceaccounts", "default"))
        return self

    def close(self) -> None:
        """Remove all that was made."""
        for path in [
            *reversed(self._cluster_wide),
            path_of("v1", "namespaces", name=self.namespace),
        ]:
            self.http.delete(path, params={"gracePeriodSeconds": 0})
        self.http.close()

    def name(self, base: str) -> str:
        """Return a name for something that has no namespace."""
        return f"{base}-{self.suffix}"

    def note(self, path: str) -> None:
        """Have something removed at the end that is not in the namespace."""
        if path not in self._cluster_wide:
            self._cluster_wide.append(path)

    # ---- calls ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, **more: Any) -> Json:
        """Return what the server answers.

        Raises:
            Refused: with a status of 400 or more.

        """
        answer = self.http.request(method, path, **more)
        if answer.status_code >= 400:
            raise Refused(answer)
        return dict(answer.json())

    def place(self, api_version: str, plural: str, name: str = "", sub: str = "") -> str:
        """Return the path of something in the test's namespace, or of what has none."""
        bare = plural in {"nodes", "namespaces", "customresourcedefinitions", "clusterroles",
                          "clusterrolebindings", "priorityclasses"}  # fmt: skip
        return path_of(api_version, plural, "" if bare else self.namespace, name, sub)

    def create(self, obj: Json, *, namespace: str = "", **query: str) -> Json:
        """Create an object of a kind that the cluster serves; one that has no namespace is noted."""
        plural, bare = self._resource(obj["apiVersion"], obj["kind"])
        own = namespace or obj["metadata"].get("namespace") or self.namespace
        space = "" if bare else own
        made = self.ask("POST", path_of(obj["apiVersion"], plural, space), json=obj, params=query)
        if bare and plural != "namespaces":
            self._cluster_wide.append(
                path_of(obj["apiVersion"], plural, name=made["metadata"]["name"])
            )
        return made

    def manifest(self, text: str) -> list[Json]:
        """Create all objects of a YAML text."""
        return [self.create(one) for one in yaml.safe_load_all(text) if one]

    def get(self, api_version: str, plural: str, name: str, sub: str = "") -> Json:
        return self.ask("GET", self.place(api_version, plural, name, sub))

    def find(self, api_version: str, plural: str, name: str) -> Json | None:
        """Return an object, or None if there is no such."""
        try:
            return self.get(api_version, plural, name)
        except Refused as error:
            if error.code == 404:
                return None
            raise

    def list(self, api_version: str, plural: str, **query: str) -> list[Json]:
        found = self.ask("GET", self.place(api_version, plural), params=query)
        return list(found["items"])

    def patch(
        self, api_version: str, plural: str, name: str, patch: Any, *,
        kind: str = "merge", sub: str = "", **query: str,
    ) -> Json:  # fmt: skip
        """Patch; ``kind`` is json, merge or strategic."""
        return self.ask(
            "PATCH", self.place(api_version, plural, name, sub), json=patch, params=query,
            headers={"Content-Type": TYPES[kind]},
        )  # fmt: skip

    def apply(
        self, api_version: str, plural: str, obj: Json, *,
        manager: str, force: bool = False, sub: str = "",
    ) -> Json:  # fmt: skip
        """Apply on the server's side."""
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        path = self.place(api_version, plural, obj["metadata"]["name"], sub)
        return self.ask(
            "PATCH",
            path,
            content=yaml.safe_dump(obj),
            params=query,
            headers={"Content-Type": _APPLY},
        )

    def replace(
        self, api_version: str, plural: str, obj: Json, *, sub: str = "", **query: str
    ) -> Json:
        path = self.place(api_version, plural, obj["metadata"]["name"], sub)
        return self.ask("PUT", path, json=obj, params=query)

    def delete(self, api_version: str, plural: str, name: str, **options: Any) -> Json:
        return self.ask("DELETE", self.place(api_version, plural, name), json=options or None)

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Return the plural of a kind, and whether it has no namespace, as discovery tells."""
        prefix = "/apis" if "/" in api_version else "/api"
        for one in self.ask("GET", f"{prefix}/{api_version}")["resources"]:
            if one["kind"] == kind and "/" not in one["name"]:
                return str(one["name"]), not one["namespaced"]
        raise AssertionError(f"{api_version} {kind} is not served")

    # ---- waiting -------------------------------------------------------------------------------

    def until(self, look: Callable[[], T | bool | None]) -> T:
        """Look again until there is something, and return it."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            found = look()
            if found:
                return found  # type: ignore[return-value]
            _breathe()
        raise AssertionError(f"not within {LONG:g} s: {look}")


def _breathe() -> None:
    """Let others have the processor before one looks again."""
    threading.Event().wait(0.02)
