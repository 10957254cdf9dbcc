"""Goes on with what was begun, by this process or one before it, and tells what an operator should see.

From any state it comes to the same: steps are finished or taken back, an object's number is what is
written on it, pods that a controller made by itself are adopted, and nothing of ours is left half done.

Only what we have begun is gone on with: what was handed over is looked at, and nothing is written on it
or on its pods before the first launch, gate or stop of it. So a cluster whose services are only advised
is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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
from heteroscale_scheduler_adapters.kubernetes.objects import (
    labels,
    name,
    namespace,
    part,
    text,
    told,
)
from heteroscale_scheduler_adapters.kubernetes.resources import PODS, Object, Resource
from heteroscale_scheduler_adapters.kubernetes.scaled import HeldError, Sight, Target
from heteroscale_scheduler_adapters.kubernetes.steps import Steps
from heteroscale_scheduler_adapters.kubernetes.templates import LaunchTemplate
from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Phase,
    RefusedError,
    Running,
    Spot,
    UnavailableError,
)

BINDS = 3
"""So often pods are bound anew in one round that others changed meanwhile."""
EMPTY = 600.0
"""An object of ours that has had no pods for so many seconds is removed."""


@dataclass(frozen=True, slots=True)
class Tended:
    """What there is beside nodes and pods."""

    notes: tuple[str, ...] = ()
    """For an operator."""
    queued: tuple[Running, ...] = ()
    """Instances that an object is to have, and that have no pod yet."""


class Tender:
    """See the module."""

    def __init__(self, ground: Ground, steps: Steps) -> None:
        self._ground = ground
        self._client = ground.client
        self._steps = steps

    async def tend(self) -> Tended:
        """Go on with all that was begun. What fails is a note: others go on."""
        queued: list[Running] = []
        async with self._ground.lock:
            handed: dict[str, str] = {}
            targets, notes = await self._targets()
            sights = await self._sights(targets, notes)
            notes += await self._go_on([one for one, _ in sights], sights)
            for one, _ in sights:
                try:
                    notes += await self._tend(one, queued, handed)
                except NotFoundError:
                    continue
                except AdapterError as error:
                    if not one.made and isinstance(error, UnavailableError):
                        raise  # its pods are a part of the whole
                    notes.append(str(error))
            self._ground.handed.clear()
            self._ground.handed.update(handed)
        return Tended(tuple(dict.fromkeys(notes)), tuple(queued))

    async def _sights(
        self, targets: Iterable[Target], notes: list[str]
    ) -> list[tuple[Target, Sight]]:
        """Return what can be seen of the targets. What has just gone, or may not be read, is a note."""
        found = []
        for one in targets:
            try:
                found.append((one, await self._ground.scaler.see(one)))
            except RefusedError as error:
                notes.append(f"{one.owner}: {error}")
        return found

    async def _targets(self) -> tuple[list[Target], list[str]]:
        """Return all that we scale: what we made, and what was handed over."""
        found: dict[tuple[str, str, str], Target] = {}
        notes = []
        for template in self._ground.templates.values():
            where = self._ground.where(template)
            try:
                if (one := await self._ground.handed_over(template)) is not None:
                    await self._client.get(one.resource, one.name, where)
                    found[one.resource.rbac, where, one.name] = one
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
        come = await self._steps.advance(request, targets, spaces)
        if come.started or self._ground.clock() < until:
            return []
        await self._steps.take_back(request, targets, spaces)
        there, size = come.muster.there, come.muster.size
        return [f"step {request} was taken back: {there} of {size or '?'} pods were there in time"]

    def _namespaces(self) -> set[str]:
        return {self._ground.where(one) for one in self._ground.templates.values()}

    def _ours(self) -> str:
        return f"{names.CLUSTER}={names.label_value(self._ground.cluster)},{names.REQUEST}"

    # ---- one object --------------------------------------------------------------------------------

    async def _tend(
        self, target: Target, queued: list[Running], handed: dict[str, str]
    ) -> list[str]:
        sight = await self._ground.scaler.see(target)
        if not target.made and not sight.touched:
            return await self._look_at(target, sight, handed)
        notes = []
        if sight.replicas != sight.record.replicas or sight.record.was != sight.record.replicas:
            try:
                await self._ground.scaler.settle(target)
            except HeldError as error:
                notes.append(str(error))
        elif why := await self._ground.scaler.held(sight):
            notes += why
        pods = await self._ground.scaler.pods(target, sight)
        notes += await self._leavers(target, sight, pods)
        for _ in range(BINDS):
            if not await self._steps.bind(target, sight, adopt=True):
                break
        now = await self._ground.scaler.pods(target, sight)
        for pod in now:
            if lives(pod) and waits(pod) and request_of(pod) == ADOPTED:
                await self._steps.let_go(pod)
        queued += self._queued(target, sight, now)
        await self._sweep(target, sight, pods)
        return notes

    async def _look_at(self, target: Target, sight: Sight, handed: dict[str, str]) -> list[str]:
        """Tell of an object that was handed over, and leave it as it is; its pods go into ``handed``."""
        template = self._handed(target)
        for pod in await self._ground.scaler.pods(target, sight):
            if template is not None and lives(pod):
                handed[text(pod, "metadata", "uid")] = template.name
        return await self._ground.scaler.held(sight)

    def _handed(self, target: Target) -> LaunchTemplate | None:
        """Return the template that an object was handed over by."""
        for one in self._ground.templates.values():
            scale = one.scale
            if scale is not None and target.owner == (
                f"{scale.api_version} {scale.kind} {self._ground.where(one)}/{scale.name}"
            ):
                return one
        return None

    def _queued(self, target: Target, sight: Sight, pods: Iterable[Object]) -> list[Running]:
        """Return the instances of open steps that have no pod yet."""
        there = {one.instance for one in units(pods)}
        handed, thing = self._handed(target), sight.thing
        service = told(thing, names.SERVICE)
        role, template = labels(thing).get(names.ROLE, ""), told(thing, names.TEMPLATE)
        if handed is not None and handed.scale is not None:
            service, role, template = handed.scale.service, handed.role, handed.name
        return [
            Running(
                seat.instance,
                service,
                role,
                Phase.QUEUED,
                tuple(Spot("") for _ in seat.nodes or ("",)),
                gate=seat.gate,
                gate_seen=False,
                group=seat.group,
                template=template,
                request_id=request,
                message=f"{target.owner} has not made its pods yet",
            )
            for request, step in sight.record.steps.items()
            for seat in step.seats
            if seat.instance not in there
        ]

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
