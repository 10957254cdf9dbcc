"""Goes on with what was begun, by this process or one before it, and tells what an operator should see.

From any state it comes to the same: steps are finished or taken back, an object's number is what is
written on it, pods that a controller made by itself are adopted, and nothing of ours is left half done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.binding import units
from heteroscale_scheduler_adapters.kubernetes.errors import NotFoundError
from heteroscale_scheduler_adapters.kubernetes.ground import Ground
from heteroscale_scheduler_adapters.kubernetes.marks import (
    ADOPTED,
    OWNER,
    STEP_UNTIL,
    lives,
    number,
    request_of,
    waits,
)
from heteroscale_scheduler_adapters.kubernetes.objects import name, namespace, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import PODS, Object, Resource
from heteroscale_scheduler_adapters.kubernetes.scaled import HeldError, Sight, Target
from heteroscale_scheduler_adapters.kubernetes.steps import Steps
from heteroscale_scheduler_adapters.port import AdapterError, RefusedError

EMPTY = 600.0
"""An object of ours that has had no pods for so many seconds is removed."""


class Tender:
    """See the module."""

    def __init__(self, ground: Ground, steps: Steps) -> None:
        self._ground = ground
        self._client = ground.client
        self._steps = steps

    async def tend(self) -> tuple[str, ...]:
        """Go on with all that was begun, and return notes. What fails is a note: others go on."""
        async with self._ground.lock:
            targets, notes = await self._targets()
            sights = [(one, await self._ground.scaler.see(one)) for one in targets]
            notes += await self._go_on(targets, sights)
            for one in targets:
                try:
                    notes += await self._tend(one)
                except NotFoundError:
                    continue
                except AdapterError as error:
                    notes.append(str(error))
        return tuple(dict.fromkeys(notes))

    async def _targets(self) -> tuple[list[Target], list[str]]:
        """Return all that we scale: what we made, and what was handed over."""
        found: dict[tuple[str, str, str], Target] = {}
        notes = []
        for template in self._ground.templates.values():
            where = self._ground.where(template)
            try:
                if template.scale is not None:
                    scale = template.scale
                    resource = await self._client.resource(scale.api_version, scale.kind)
                    await self._client.get(resource, scale.name, where)
                    one = Target(resource, scale.name, where, made=False, force=template.force)
                    found[resource.rbac, where, scale.name] = one
                elif template.object is not None:
                    kind = text(template.object, "kind")
                    resource = await self._client.resource(template.object["apiVersion"], kind)
                    for thing in await self._made(resource, where):
                        one = Target(resource, name(thing), where, made=True, force=template.force)
                        found.setdefault((resource.rbac, where, name(thing)), one)
            except RefusedError as error:
                notes.append(f"template {template.name}: {error}")
        return list(found.values()), notes

    async def _made(self, resource: Resource, where: str) -> Sequence[Object]:
        cluster = names.label_value(self._ground.cluster)
        selector = f"{names.CLUSTER}={cluster},{names.MANAGED_BY}={names.MANAGER}"
        return (await self._client.list(resource, where, labels=selector)).items

    # ---- steps -------------------------------------------------------------------------------------

    async def _go_on(
        self, targets: Sequence[Target], sights: Iterable[tuple[Target, Sight]]
    ) -> list[str]:
        """Finish the steps under way, or take them back when their time is over."""
        until: dict[str, float] = {}
        for _, sight in sights:
            for request, step in sight.record.steps.items():
                until[request] = min(step.until, until.get(request, step.until))
        for pod in await self._waiting():
            request = request_of(pod)
            if request and request != ADOPTED:
                until.setdefault(request, number(pod, STEP_UNTIL, 0.0))
        notes = []
        for request, end in sorted(until.items()):
            try:
                notes += await self._finish(request, end, targets)
            except AdapterError as error:
                notes.append(f"step {request}: {error}")
        return notes

    async def _waiting(self) -> list[Object]:
        """Return the pods of ours that wait and stand for themselves."""
        found: list[Object] = []
        for where in sorted(self._namespaces()):
            pods = await self._client.list(PODS, where, labels=self._ours())
            found += [pod for pod in pods.items if lives(pod) and waits(pod)]
        return [one for one in found if not text(part(one, "metadata", "annotations"), OWNER)]

    async def _finish(self, request: str, until: float, targets: Sequence[Target]) -> list[str]:
        spaces = self._namespaces() | {one.namespace for one in targets}
        told = await self._steps.advance(request, targets, spaces)
        if told.started or self._ground.clock() < until:
            return []
        await self._steps.take_back(request, targets, spaces)
        there, size = told.muster.there, told.muster.size
        return [f"step {request} was taken back: {there} of {size or '?'} pods were there in time"]

    def _namespaces(self) -> set[str]:
        return {self._ground.where(one) for one in self._ground.templates.values()}

    def _ours(self) -> str:
        return f"{names.CLUSTER}={names.label_value(self._ground.cluster)},{names.REQUEST}"

    # ---- one object --------------------------------------------------------------------------------

    async def _tend(self, target: Target) -> list[str]:
        notes = []
        sight = await self._ground.scaler.see(target)
        if sight.replicas != sight.record.replicas or sight.record.was != sight.record.replicas:
            try:
                await self._ground.scaler.settle(target)
            except HeldError as error:
                notes.append(str(error))
        elif why := await self._ground.scaler.held(sight):
            notes += why
        pods = await self._ground.scaler.pods(target, sight)
        notes += await self._leavers(target, sight, pods)
        await self._steps.bind(target, sight, adopt=True)
        for pod in await self._ground.scaler.pods(target, sight):
            if lives(pod) and waits(pod) and request_of(pod) == ADOPTED:
                await self._steps.let_go(pod)
        await self._sweep(target, sight, pods)
        return notes

    async def _leavers(self, target: Target, sight: Sight, pods: Iterable[Object]) -> list[str]:
        """Forget those that have left; tell of one that stayed because another was taken."""
        there = units(pods)
        live = {one.instance: one for one in there if one.instance}
        gone = {one for one in sight.record.leaving if one not in live}
        stayed = []
        seen = int(part(sight.thing, "status").get("replicas") or 0)
        if sight.replicas == sight.record.replicas == seen == len(there):
            stayed = [one for one in sight.record.leaving if one in live]
        for instance in stayed:
            for pod in live[instance].pods:
                back = {names.STOPPING: None, names.DELETION_COST: None}
                patch = {"metadata": {"annotations": back}}
                await self._client.patch(PODS, name(pod), namespace(pod), patch)
        if gone or stayed:
            over = gone | set(stayed)
            await self._ground.scaler.edit(target, lambda record: record.gone(over))
        return [f"{target.owner}: another pod than that of {one} was ended" for one in stayed]

    async def _sweep(self, target: Target, sight: Sight, pods: Sequence[Object]) -> None:
        """Remove an object of ours that has been empty for long."""
        if not target.made or sight.record.replicas or sight.replicas or pods or sight.record.steps:
            return
        now = self._ground.clock()
        if not sight.record.empty:
            await self._ground.scaler.edit(target, lambda record: replace(record, empty=now))
        elif now - sight.record.empty >= EMPTY:
            uid = text(sight.thing, "metadata", "uid")
            await self._client.delete(target.resource, target.name, target.namespace, uid=uid)
