"""What all rooms that act share: the client, the templates, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.objects import labels, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.scaled import Scaler, Target
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule, LaunchTemplate

Clock = Callable[[], float]
Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ground:
    """What all that acts works with."""

    cluster: str
    client: Client
    scaler: Scaler
    templates: Mapping[str, LaunchTemplate]
    rule: GateRule
    """Of templates that say none of their own."""
    namespace: str
    levels: Mapping[str, tuple[str, ...]]
    clock: Clock
    """Seconds since 1970."""
    pause: Pause
    lock: asyncio.Lock
    """Held while pods are bound and let go, so that two tasks of one process do not do the same."""
    handed: dict[str, str] = field(default_factory=dict)
    """Pods of objects that were handed over and that we have written nothing on yet: uid to template."""

    def rule_of(self, template: str) -> GateRule:
        """Return how the traffic of a template's pods is gated."""
        known = self.templates.get(template)
        return self.rule if known is None or known.gate is None else known.gate

    def rule_for(self, pod: Object) -> GateRule:
        """Return how a pod's traffic is gated."""
        notes = part(pod, "metadata", "annotations")
        return self.rule_of(text(notes, names.TEMPLATE) or labels(pod).get(names.TEMPLATE, ""))

    async def handed_over(self, template: LaunchTemplate) -> Target | None:
        """Return the object that a template hands over; None: it hands over none."""
        scale = template.scale
        if scale is None:
            return None
        resource = await self.client.resource(scale.api_version, scale.kind)
        where = self.where(template)
        return Target(resource, scale.name, where, made=False, force=template.force)

    def where(self, template: LaunchTemplate) -> str:
        """Return the namespace that a template's pods live in."""
        return template.where(self.namespace)
