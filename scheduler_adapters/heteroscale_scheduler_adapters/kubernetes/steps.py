"""A step starts whole. What it waits for stands in the cluster, so that any process can go on with it.

First all pods are made, or the objects' numbers raised; every pod waits at our scheduling gate. Once all
pods of the step are there (so quotas and admission let them in) and each is bound to its instance, all
gates are taken away. Until the first gate has gone the step can be taken back; after that it is finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.binding import (
    HELD,
    Binding,
    Muster,
    bindings,
    doubles,
    muster,
    nodes_of,
    rank_of,
    units,
)
from heteroscale_scheduler_adapters.kubernetes.errors import ConflictError, NotFoundError
from heteroscale_scheduler_adapters.kubernetes.ground import Ground
from heteroscale_scheduler_adapters.kubernetes.manifests import steered
from heteroscale_scheduler_adapters.kubernetes.marks import (
    ADOPTED,
    GOES_FIRST,
    OWNER,
    Identity,
    gate_marks,
    identity_marks,
    lives,
    request_of,
    traffic_condition,
    ungated,
    waits,
    wish_of,
)
from heteroscale_scheduler_adapters.kubernetes.objects import (
    condition,
    labels,
    name,
    namespace,
    part,
    revision,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.record import Record
from heteroscale_scheduler_adapters.kubernetes.resources import EVENTS, PODS, Object
from heteroscale_scheduler_adapters.kubernetes.scaled import Sight, Target
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule
from heteroscale_scheduler_adapters.port import GateWish, RefusedError


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a step has come."""

    started: bool
    muster: Muster
    refused: str = ""
    """Why its pods do not come, in the words of the cluster."""


class Steps:
    """See the module."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._client = ground.client

    async def advance(
        self, request: str, targets: Iterable[Target], namespaces: Iterable[str]
    ) -> Advance:
        """Bind what is there of a step, and let it go if it is whole. Hold the lock."""
        refused = ""
        open_here = []
        for target in targets:
            sight = await self._ground.scaler.see(target)
            if request in sight.record.steps:
                open_here.append(target)
                await self.bind(target, sight)
                refused = refused or _refusal(sight.thing)
        pods = await self.pods(request, namespaces)
        told = muster(request, pods)
        if not told.whole:
            return Advance(started=False, muster=told, refused=refused)
        for pod in pods:
            await self.let_go(pod)
        for target in open_here:
            await self._ground.scaler.edit(target, lambda record: record.finished(request))
        return Advance(started=True, muster=told)

    async def pods(self, request: str, namespaces: Iterable[str]) -> list[Object]:
        """Return the live pods of a step."""
        selector = f"{names.REQUEST}={names.label_value(request)}"
        found: list[Object] = []
        for one in sorted(set(namespaces)):
            found += (await self._client.list(PODS, one, labels=selector)).items
        return [pod for pod in found if request_of(pod) == request and lives(pod)]

    async def bind(self, target: Target, sight: Sight, *, adopt: bool = False) -> int:
        """Bind a target's pods to the seats of its steps; ``adopt``: also those that came by themselves.

        Returns how many pods were left for another time, because they changed meanwhile.
        """
        there = units(await self._ground.scaler.pods(target, sight))
        missed = 0
        for double in doubles(there):
            for pod in double.pods:
                missed += not await self._change(pod, _unbound(pod))
        for one in bindings(sight.record, there):
            if one.seat is None and not adopt:
                continue
            for pod in one.unit.pods:
                if names.INSTANCE not in labels(pod):
                    missed += not await self._change(
                        pod, self._bound(target, sight.record, one, pod)
                    )
        return missed

    async def take_over(self, target: Target) -> None:
        """Adopt the pods of an object that was handed over, when something is first done with it."""
        if target.made:
            return
        sight = await self._ground.scaler.see(target)
        if sight.touched:
            return
        await self.bind(target, sight, adopt=True)
        # Written even if it says nothing new: from now on what stands there is ours.
        await self._ground.scaler.touch(target)

    async def check_selector(self, target: Target, rule: GateRule) -> None:
        """Check that an object's pods stay its own, however they are gated. RefusedError: they do not."""
        try:
            sight = await self._ground.scaler.see(target)
        except NotFoundError:
            return
        keys = {re.split("[=! ]", piece.strip())[0] for piece in sight.selector.split(",")}
        if both := keys & {names.GATE, *rule.labels}:
            raise RefusedError(
                f"{target.owner}: its selector has the gate's label {min(both)}; a pod that lost it"
                " would be replaced by its controller: gate by another label"
            )

    async def let_go(self, pod: Object) -> None:
        """Take our gate from a pod, and let its readiness follow what is wished."""
        here = pod
        for _ in range(4):
            if not waits(here):
                break
            if await self._change(here, ungated(here)):
                break
            try:
                here = await self._client.get(PODS, name(pod), namespace(pod))
            except NotFoundError:
                return
        await self.show(pod, wish_of(pod))

    async def show(self, pod: Object, wish: GateWish) -> None:
        """Let a pod's readiness condition follow a wish, if it has declared the readiness gate."""
        patch = traffic_condition(pod, wish, self._ground.clock())
        if patch is None:
            return
        try:
            await self._client.patch(
                PODS, name(pod), namespace(pod), patch, kind="strategic", subresource="status"
            )
        except NotFoundError:
            return

    async def take_back(
        self, request: str, targets: Sequence[Target], spaces: Iterable[str]
    ) -> None:
        """Take back all of a step that has not started. What has been let go is left alone."""
        pods = await self.pods(request, spaces)
        if muster(request, pods).committed:
            return
        for pod in pods:
            if text(part(pod, "metadata", "annotations"), OWNER):
                mark = {"metadata": {"annotations": {names.DELETION_COST: GOES_FIRST}}}
                await self._touch(pod, mark)
            else:
                uid = text(pod, "metadata", "uid")
                await self._client.delete(PODS, name(pod), namespace(pod), grace=0, uid=uid)
        for target in targets:
            try:
                await self._ground.scaler.edit(target, lambda record: record.taken_back(request))
                await self._ground.scaler.settle(target)
            except NotFoundError:
                continue

    async def why_not(self, targets: Iterable[Target]) -> str:
        """Return what the cluster last said of pods that it did not make, or nothing."""
        said: list[tuple[str, str]] = []
        for target in targets:
            events = await self._client.list(EVENTS, target.namespace, fields="reason=FailedCreate")
            said += [
                (text(one, "lastTimestamp"), text(one, "message"))
                for one in events.items
                if text(one, "involvedObject", "name").startswith(target.name)
            ]
        return max(said, default=("", ""))[1]

    def _bound(self, target: Target, record: Record, binding: Binding, pod: Object) -> Object:
        """Return the patch that binds a pod."""
        seat, rank = binding.seat, rank_of(pod)
        step = record.steps.get(binding.request)
        if seat is None or step is None:
            who = Identity(adopted_id(binding.unit.pods[0]), ADOPTED, rank, len(binding.unit.pods))
            wish = wish_of(pod)
        else:
            who = Identity(
                seat.instance, binding.request, rank, len(binding.unit.pods), seat.group,
                step.cause, step.size, step.until,
            )  # fmt: skip
            wish = seat.gate
        rule = self._ground.rule_for(pod)
        marked, noted = identity_marks(who)
        gated, gate_notes = gate_marks(wish, rule)
        noted |= {**gate_notes, OWNER: target.owner}
        marked |= {**gated, **self._whose(target, pod)}
        patch: Object = {
            "metadata": {"resourceVersion": revision(pod), "labels": marked, "annotations": noted}
        }
        if waits(pod):
            noted[HELD] = "true"
            template = self._ground.templates.get(labels(pod).get(names.TEMPLATE, ""))
            required = template is not None and template.pin == "required"
            node = nodes_of(seat, rank) if seat is not None else ""
            if spec := steered(pod, node, required=required):
                patch["spec"] = spec
        return patch

    def _whose(self, target: Target, pod: Object) -> dict[str, str | None]:
        """Return the labels that pods of an object handed over lack."""
        found: dict[str, str | None] = {names.CLUSTER: names.label_value(self._ground.cluster)}
        for template in self._ground.templates.values():
            scale = template.scale
            if scale is not None and (scale.kind, scale.name) == (
                target.resource.kind,
                target.name,
            ):
                found |= {
                    names.TEMPLATE: names.label_value(template.name),
                    names.ROLE: template.role,
                }
                found[names.PORT] = str(template.port)
                found[names.SERVICE] = names.label_value(scale.service)
        return {key: value for key, value in found.items() if key not in labels(pod)}

    async def _change(self, pod: Object, patch: Object) -> bool:
        """Change a pod if it is as it was read; False: it is not, or it is gone."""
        try:
            await self._client.patch(PODS, name(pod), namespace(pod), patch)
        except (ConflictError, NotFoundError):
            return False
        return True

    async def _touch(self, pod: Object, patch: Object) -> None:
        try:
            await self._client.patch(PODS, name(pod), namespace(pod), patch)
        except NotFoundError:
            return


def adopted_id(pod: Object) -> str:
    """Return the instance that a pod is which no step of ours launched."""
    return f"pod-{text(pod, 'metadata', 'uid')}"


def _unbound(pod: Object) -> Object:
    gone = dict.fromkeys((names.INSTANCE, names.REQUEST, names.RANK), None)
    return {
        "metadata": {
            "resourceVersion": revision(pod),
            "labels": gone,
            "annotations": {names.INSTANCE: None, names.REQUEST: None},
        }
    }


def _refusal(thing: Object) -> str:
    """Return why an object's controller cannot make pods, if it has seen the newest wish."""
    metadata, status = part(thing, "metadata"), part(thing, "status")
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return ""
    failure = condition(thing, "ReplicaFailure")
    return text(dict(failure), "message") if failure.get("status") == "True" else ""
