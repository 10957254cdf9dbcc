"""Launches a step: all its pods are asked for, then it waits until they are there, or takes all back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from heteroscale_scheduler_adapters.kubernetes.errors import (
    ConflictError,
    ExistsError,
    NotFoundError,
)
from heteroscale_scheduler_adapters.kubernetes.ground import Ground
from heteroscale_scheduler_adapters.kubernetes.manifests import (
    Expression,
    domain_of,
    object_name,
    pods,
    scaled_object,
)
from heteroscale_scheduler_adapters.kubernetes.marks import Identity, instance_of
from heteroscale_scheduler_adapters.kubernetes.objects import labels, name, namespace, part
from heteroscale_scheduler_adapters.kubernetes.record import Open, Record, seat
from heteroscale_scheduler_adapters.kubernetes.resources import NODES, PODS, Object
from heteroscale_scheduler_adapters.kubernetes.scaled import Target
from heteroscale_scheduler_adapters.kubernetes.steps import Steps
from heteroscale_scheduler_adapters.kubernetes.templates import LaunchTemplate
from heteroscale_scheduler_adapters.port import AdapterError, Launch, RefusedError, Step

FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Seconds between looks at a step that is not whole yet, at first and at last."""
_TWICE = 2


@dataclass(slots=True)
class Plan:
    """What a step asks of the cluster."""

    request: str
    until: float
    size: int
    pods: list[Object] = field(default_factory=list)
    objects: dict[Target, Object | None] = field(default_factory=dict)
    """What is scaled, and what it is made of if we make it."""
    seats: dict[Target, list[Launch]] = field(default_factory=dict)

    @property
    def namespaces(self) -> set[str]:
        """Where its pods are."""
        return {namespace(pod) for pod in self.pods} | {one.namespace for one in self.objects}


class Launcher:
    """See the module."""

    def __init__(self, ground: Ground, steps: Steps) -> None:
        self._ground = ground
        self._client = ground.client
        self._steps = steps

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing; see `port.Adapter.launch`."""
        plan = await self._plan(step)
        try:
            async with self._ground.lock:
                if await self._over(plan):
                    return
                await self._ask(plan, step)
            await self._until_whole(plan)
        except RefusedError as why:
            async with self._ground.lock:
                await self._steps.take_back(plan.request, list(plan.objects), plan.namespaces)
            raise RefusedError(f"the step was taken back: {why}") from why

    # ---- what is to be asked -----------------------------------------------------------------------

    async def _plan(self, step: Step) -> Plan:
        """Return what to ask; RefusedError: it cannot be."""
        chosen = [(one, self._template(one)) for one in step.launches]
        until = self._ground.clock() + max(template.step_timeout for _, template in chosen)
        plan = Plan(step.request_id, until, sum(len(one.ranks) for one in step.launches))
        for one, template in chosen:
            where = self._ground.where(template)
            if template.pod is not None:
                who = Identity(
                    one.instance_id, step.request_id, group=one.group, cause=step.cause,
                    size=plan.size, until=until,
                )  # fmt: skip
                rule = self._ground.rule_of(template.name)
                plan.pods += pods(
                    template, one, where, who=who, rule=rule, cluster=self._ground.cluster
                )
                continue
            target, manifest = await self._target(one, template, where)
            plan.objects.setdefault(target, manifest)
            plan.seats.setdefault(target, []).append(one)
        return plan

    def _template(self, one: Launch) -> LaunchTemplate:
        template = self._ground.templates.get(one.template)
        if template is None:
            known = ", ".join(sorted(self._ground.templates)) or "none"
            raise RefusedError(f"there is no template {one.template}; there are: {known}")
        if not one.ranks:
            raise RefusedError(f"{one.instance_id}: a launch without a rank")
        if template.gpus != one.gpus:
            raise RefusedError(
                f"template {template.name} gives each rank {template.gpus} GPUs, asked are {one.gpus}"
            )
        if template.scale is not None and template.scale.service != one.service:
            raise RefusedError(
                f"template {template.name} scales an object of service {template.scale.service},"
                f" not of {one.service}"
            )
        if (ranks := _ranks(template)) and ranks != len(one.ranks):
            raise RefusedError(
                f"template {template.name}: one {template.kind} replica is {ranks} pods,"
                f" asked are {len(one.ranks)} ranks"
            )
        return template

    async def _target(
        self, one: Launch, template: LaunchTemplate, where: str
    ) -> tuple[Target, Object | None]:
        handed = await self._ground.handed_over(template)
        if handed is not None:
            return handed, None
        manifest = template.object or {}
        resource = await self._client.resource(manifest["apiVersion"], manifest["kind"])
        domain = await self._domain(one)
        rule = self._ground.rule_of(template.name)
        called = object_name(template, one, rule, domain)
        cluster = self._ground.cluster
        thing = scaled_object(
            template, one, name=called, namespace=where, rule=rule, cluster=cluster, where=domain
        )
        return Target(resource, called, where, made=True, force=template.force), thing

    async def _domain(self, one: Launch) -> list[Expression]:
        """Return the labels by which the nodes of a launch's domain are known."""
        node = one.ranks[0].node
        if not one.domain:
            return []
        try:
            found = await self._client.get(NODES, node)
        except NotFoundError:
            raise RefusedError(f"there is no node {node}") from None
        where = domain_of(one, self._ground.levels, labels(found))
        if not where:
            raise RefusedError(
                f"node {node} has no label for the domain {one.domain}; see topology in the options"
            )
        return where

    # ---- asking ------------------------------------------------------------------------------------

    async def _over(self, plan: Plan) -> bool:
        """Return whether the step has started before: then it is not started again."""
        for target in plan.objects:
            try:
                sight = await self._ground.scaler.see(target)
            except NotFoundError:
                continue
            if plan.request in sight.record.done:
                return True
        return False

    async def _ask(self, plan: Plan, step: Step) -> None:
        """Make all pods, and raise all numbers. Nothing of it runs yet."""
        for target, manifest in plan.objects.items():
            if manifest is not None:
                await self._make(target, manifest)
            await self._ground.scaler.free(target)
            for one in () if target.made else plan.seats[target]:
                await self._steps.check_selector(target, self._ground.rule_of(one.template))
            await self._steps.take_over(target)
        for target, launches in plan.seats.items():
            opened = Open(step.cause, plan.size, plan.until, tuple(map(seat, launches)))
            record = await self._ground.scaler.edit(
                target, partial(Record.opened, request=plan.request, step=opened)
            )
            plan.until = min(plan.until, record.steps[plan.request].until)
            await self._ground.scaler.settle(target)
        for pod in plan.pods:
            await self._start(pod)

    async def _make(self, target: Target, manifest: Object) -> None:
        """Make an object if it is not there. Its name says all that it is, so it is never changed."""
        try:
            await self._client.get(target.resource, target.name, target.namespace)
        except NotFoundError:
            try:
                await self._client.apply(target.resource, manifest)
            except ConflictError:  # another process has just made it, and raised its number
                return

    async def _start(self, pod: Object) -> None:
        try:
            await self._client.create(PODS, pod, namespace(pod))
        except ExistsError:
            there = await self._client.get(PODS, name(pod), namespace(pod))
            if instance_of(there) != instance_of(pod):
                raise RefusedError(
                    f"pod {namespace(pod)}/{name(pod)} is there already, and not ours"
                ) from None

    async def _until_whole(self, plan: Plan) -> None:
        look, said = FIRST_LOOK, ""
        while True:
            async with self._ground.lock:
                told = await self._steps.advance(plan.request, plan.objects, plan.namespaces)
            if told.started:
                return
            if told.refused and said:  # seen twice: no word of the time before the step
                raise RefusedError(told.refused)
            said = told.refused
            if self._ground.clock() >= plan.until:
                raise RefusedError(await self._late(plan, told.muster.there))
            await self._ground.pause(look)
            look = min(LAST_LOOK, look * _TWICE)

    async def _late(self, plan: Plan, there: int) -> str:
        try:
            said = await self._steps.why_not(plan.objects)
        except AdapterError as error:
            said = str(error)
        because = f": {said}" if said else ""
        return f"only {there} of its {plan.size} pods were let in in time{because}"


def _ranks(template: LaunchTemplate) -> int:
    """Return of how many pods one replica is; 0: not known before it is there."""
    if template.pod is not None or template.scale is not None:
        return 0
    if template.kind == "LeaderWorkerSet":
        return int(part(template.object, "spec", "leaderWorkerTemplate").get("size") or 1)
    return 1
