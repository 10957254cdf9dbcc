"""Objects with the scale subresource: read, written on, and their number set; conflicts are retried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.errors import ConflictError, NotFoundError
from heteroscale_scheduler_adapters.kubernetes.marks import OBJECT
from heteroscale_scheduler_adapters.kubernetes.objects import part, text
from heteroscale_scheduler_adapters.kubernetes.others import hands, title
from heteroscale_scheduler_adapters.kubernetes.record import RECORD, Record, read_record
from heteroscale_scheduler_adapters.kubernetes.resources import (
    AUTOSCALERS,
    PODS,
    Object,
    Resource,
)
from heteroscale_scheduler_adapters.port import RefusedError, UnavailableError

TRIES = 8


class HeldError(RefusedError):
    """Another has a hand on the number of an object's pods."""


@dataclass(frozen=True, slots=True)
class Target:
    """One object that is scaled."""

    resource: Resource
    name: str
    namespace: str
    made: bool
    """We made it; else it was handed over."""
    force: bool = False

    @property
    def owner(self) -> str:
        """How its pods name it."""
        return f"{self.resource.api_version} {self.resource.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Sight:
    """A target as it was at one moment."""

    thing: Object
    replicas: int
    selector: str
    """By which its pods are found."""
    record: Record
    """What we wrote on it; if nothing yet, what would be written first."""
    touched: bool
    """Whether we wrote anything."""


class Scaler:
    """See the module."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def see(self, target: Target) -> Sight:
        """Read a target and its scale. NotFoundError: it is not there."""
        thing = await self._client.get(target.resource, target.name, target.namespace)
        scale = await self._client.get(
            target.resource, target.name, target.namespace, subresource="scale"
        )
        replicas = int(part(scale, "spec").get("replicas") or 0)
        record = read_record(thing)
        selector = _selector(target, text(scale, "status", "selector"))
        mine = record or Record(replicas, replicas)
        return Sight(thing, replicas, selector, mine, record is not None)

    async def edit(self, target: Target, change: Callable[[Record], Record]) -> Record:
        """Change what is written on a target, from what is there now, and return it."""
        for _ in range(TRIES):
            sight = await self.see(target)
            wanted = change(sight.record)
            if wanted == sight.record:
                return wanted
            patch = {
                "metadata": {
                    "resourceVersion": text(sight.thing, "metadata", "resourceVersion"),
                    "annotations": {RECORD: wanted.dump()},
                }
            }
            try:
                await self._client.patch(target.resource, target.name, target.namespace, patch)
            except ConflictError:
                continue
            return wanted
        raise UnavailableError(f"{target.owner}: others changed it {TRIES} times in a row")

    async def touch(self, target: Target) -> None:
        """Write a first record on a target that has none."""
        for _ in range(TRIES):
            sight = await self.see(target)
            if sight.touched:
                return
            version = text(sight.thing, "metadata", "resourceVersion")
            notes = {RECORD: sight.record.dump()}
            patch = {"metadata": {"resourceVersion": version, "annotations": notes}}
            try:
                await self._client.patch(target.resource, target.name, target.namespace, patch)
            except ConflictError:
                continue
            return
        raise UnavailableError(f"{target.owner}: others changed it {TRIES} times in a row")

    async def settle(self, target: Target) -> None:
        """Set the number of pods to what is written. HeldError: another's hand is on it."""
        for _ in range(TRIES):
            sight = await self.see(target)
            if sight.replicas == sight.record.replicas:
                break
            if not target.force and (why := await self.held(sight)):
                raise HeldError("; ".join(why))
            version = text(sight.thing, "metadata", "resourceVersion")
            patch = {
                "metadata": {"resourceVersion": version},
                "spec": {"replicas": sight.record.replicas},
            }
            try:
                await self._client.patch(
                    target.resource, target.name, target.namespace, patch, subresource="scale"
                )
            except ConflictError:
                continue
            break
        else:
            raise UnavailableError(f"{target.owner}: others changed it {TRIES} times in a row")
        if sight.touched and sight.record.was != sight.record.replicas:
            await self.edit(target, lambda record: record.settled(sight.record.replicas))

    async def free(self, target: Target) -> None:
        """Check that the number of pods is ours to set. HeldError: it is not."""
        if target.force:
            return
        if why := await self.held(await self.see(target)):
            raise HeldError("; ".join(why))

    async def held(self, sight: Sight) -> list[str]:
        """Return who else has a hand on it, in words."""
        try:
            found = await self._client.list(AUTOSCALERS, text(sight.thing, "metadata", "namespace"))
        except NotFoundError:
            autoscalers: tuple[Object, ...] = ()
        else:
            autoscalers = found.items
        known = sight.record if sight.touched else None
        return hands(sight.thing, sight.replicas, known, autoscalers)

    async def pods(self, target: Target, sight: Sight) -> tuple[Object, ...]:
        """Return all pods of a target."""
        if not sight.selector:
            raise RefusedError(
                f"{title(sight.thing)}: its scale subresource tells no selector; its pods cannot be found"
            )
        return (await self._client.list(PODS, target.namespace, labels=sight.selector)).items


def _selector(target: Target, told: str) -> str:
    if target.made:
        return f"{OBJECT}={target.name}"
    if target.resource.kind == "LeaderWorkerSet":
        return f"{names.LWS_NAME}={target.name}"
    return told
