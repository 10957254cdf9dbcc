"""Ends instances, and keeps traffic from them. Both are levels: asking twice is asking once."""

from __future__ import annotations

from datetime import UTC, datetime

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.errors import (
    BudgetError,
    ConflictError,
    NotFoundError,
)
from heteroscale_scheduler_adapters.kubernetes.ground import Ground
from heteroscale_scheduler_adapters.kubernetes.leaving import kept
from heteroscale_scheduler_adapters.kubernetes.marks import (
    GOES_FIRST,
    OWNER,
    gate_marks,
    instance_of,
    lives,
    request_of,
)
from heteroscale_scheduler_adapters.kubernetes.objects import (
    labels,
    name,
    namespace,
    part,
    revision,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.resources import PODS, Object
from heteroscale_scheduler_adapters.kubernetes.scaled import Target
from heteroscale_scheduler_adapters.kubernetes.steps import Steps
from heteroscale_scheduler_adapters.port import GateWish, RefusedError, UnavailableError

TRIES = 8
_OWNER_WORDS = 3


class Ender:
    """See the module."""

    def __init__(self, ground: Ground, steps: Steps) -> None:
        self._ground = ground
        self._client = ground.client
        self._steps = steps

    async def gate(self, instance: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away; see `port.Adapter.gate`."""
        found = await self._pods(instance) or await self._taken_over(instance)
        if not found:
            raise RefusedError(f"there is no instance {instance} of ours")
        if not wish.open:
            await self._keeps_its_pods(found[0])
        for pod in found:
            marked, noted = gate_marks(wish, self._ground.rule_for(pod))
            patch = {"metadata": {"labels": marked, "annotations": noted}}
            try:
                await self._client.patch(PODS, name(pod), namespace(pod), patch)
                await self._steps.show(pod, wish)
            except NotFoundError:
                raise RefusedError(f"{instance}: its pod {name(pod)} has just gone") from None

    async def _keeps_its_pods(self, pod: Object) -> None:
        """Check that a pod stays its object's without the gate's labels. RefusedError: it would not."""
        rule = self._ground.rule_for(pod)
        target = await self.target_of(pod) if rule.labels else None
        if target is not None and not target.made:
            await self._steps.check_selector(target, rule)

    async def stop(self, instance: str, grace: float) -> None:
        """End an instance; see `port.Adapter.stop`."""
        found = await self._pods(instance) or await self._taken_over(instance)
        if not found:
            return
        target = await self.target_of(found[0])
        if target is None:
            await self._evict(instance, found, grace)
        else:
            await self._leave(instance, found, target)

    async def target_of(self, pod: Object) -> Target | None:
        """Return the object that sets the number of a pod's; None: it stands for itself."""
        words = text(part(pod, "metadata", "annotations"), OWNER).split()
        if len(words) != _OWNER_WORDS:
            return None
        api_version, kind, where = words
        space, _, called = where.partition("/")
        resource = await self._client.resource(api_version, kind)
        template = self._ground.templates.get(labels(pod).get(names.TEMPLATE, ""))
        made = called == labels(pod).get("heteroscale.io/object")
        force = template is not None and template.force
        return Target(resource, called, space, made=made, force=force)

    async def _pods(self, instance: str) -> list[Object]:
        """Return the live pods of an instance. RefusedError: others launched it."""
        selector = f"{names.INSTANCE}={names.label_value(instance)}"
        found = [
            pod
            for pod in (await self._client.list(PODS, labels=selector)).items
            if instance_of(pod) == instance and lives(pod)
        ]
        mine = names.label_value(self._ground.cluster)
        for pod in found:
            if not request_of(pod) or labels(pod).get(names.CLUSTER) != mine:
                raise RefusedError(f"{instance}: pod {namespace(pod)}/{name(pod)} is not ours")
        return found

    async def _taken_over(self, instance: str) -> list[Object]:
        """Return the pods of an instance that is known by its pod's uid alone, once they are ours.

        RefusedError: others launched it, and nobody handed it over.
        """
        uid = instance.removeprefix("pod-")
        if uid == instance:
            return []
        for template in self._ground.templates.values():
            target = await self._ground.handed_over(template)
            if target is not None and await self._take_over(target, uid):
                return await self._pods(instance)
        for pod in (await self._client.list(PODS)).items:
            if text(pod, "metadata", "uid") == uid and lives(pod):
                where = f"{namespace(pod)}/{name(pod)}"
                raise RefusedError(
                    f"{instance}: pod {where} was launched by others, whose it is to stop"
                )
        return []

    async def _take_over(self, target: Target, uid: str) -> bool:
        """Make an object's pods ours if this is one of them, and return whether it is."""
        scaler = self._ground.scaler
        try:
            sight = await scaler.see(target)
        except NotFoundError:
            return False
        pods = await scaler.pods(target, sight)
        if not any(text(pod, "metadata", "uid") == uid and lives(pod) for pod in pods):
            return False
        async with self._ground.lock:
            await scaler.free(target)
            await self._steps.take_over(target)
            await self._steps.bind(target, await scaler.see(target), adopt=True)
        return True

    async def _evict(self, instance: str, pods: list[Object], grace: float) -> None:
        await self._allowed(instance, pods)
        for pod in pods:
            try:
                await self._client.evict(name(pod), namespace(pod), grace=grace)
            except NotFoundError:
                continue
            except BudgetError as error:
                raise RefusedError(f"{instance}: {error}") from error

    async def _allowed(self, instance: str, pods: list[Object]) -> None:
        """Ask the disruption budgets, without doing anything."""
        for pod in pods:
            try:
                await self._client.evict(name(pod), namespace(pod), dry_run=True)
            except NotFoundError:
                continue
            except BudgetError as error:
                raise RefusedError(
                    f"{instance}: a disruption budget keeps pod {namespace(pod)}/{name(pod)}: {error}"
                ) from error

    async def _leave(self, instance: str, pods: list[Object], target: Target) -> None:
        """Let an object's number fall by one, so that this instance is the one that goes."""
        sight = await self._ground.scaler.see(target)
        if instance not in sight.record.leaving:
            await self._ground.scaler.free(target)
            every = await self._ground.scaler.pods(target, sight)
            if why := kept(target.resource.kind, every).get(instance):
                raise RefusedError(f"{instance} cannot leave now: {why}")
            await self._allowed(instance, pods)
            for pod in pods:
                await self._mark(pod)
            await self._ground.scaler.edit(target, lambda record: record.left(instance))
        await self._ground.scaler.settle(target)

    async def _mark(self, pod: Object) -> None:
        now = datetime.fromtimestamp(self._ground.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        notes = {names.STOPPING: now, names.DELETION_COST: GOES_FIRST}
        for _ in range(TRIES):
            patch = {"metadata": {"resourceVersion": revision(pod), "annotations": notes}}
            try:
                await self._client.patch(PODS, name(pod), namespace(pod), patch)
            except ConflictError:
                pod = await self._client.get(PODS, name(pod), namespace(pod))
            else:
                return
        raise UnavailableError(f"pod {namespace(pod)}/{name(pod)}: others changed it {TRIES} times")
