"""The acting half of the adapter: launch, gate, stop, and going on with what was begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.ending import Ender
from heteroscale_scheduler_adapters.kubernetes.ground import Clock, Ground, Pause
from heteroscale_scheduler_adapters.kubernetes.launching import Launcher
from heteroscale_scheduler_adapters.kubernetes.scaled import Scaler
from heteroscale_scheduler_adapters.kubernetes.steps import Steps
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule, LaunchTemplate
from heteroscale_scheduler_adapters.kubernetes.tending import Tended, Tender
from heteroscale_scheduler_adapters.port import GateWish, Step


class Hands:
    """What an adapter does in its cluster; its calls are the port's."""

    def __init__(
        self,
        cluster: str,
        client: Client,
        *,
        templates: Mapping[str, LaunchTemplate],
        rule: GateRule,
        namespace: str,
        levels: Mapping[str, tuple[str, ...]],
        clock: Clock = time.time,
        pause: Pause = asyncio.sleep,
    ) -> None:
        ground = Ground(
            cluster, client, Scaler(client), templates, rule, namespace, levels, clock, pause,
            asyncio.Lock(),
        )  # fmt: skip
        steps = Steps(ground)
        self.handed: Mapping[str, str] = ground.handed
        """Pods of objects that were handed over and that nothing was written on yet: uid to template."""
        self._launching = 0
        self._launcher = Launcher(ground, steps)
        self._ender = Ender(ground, steps)
        self._tender = Tender(ground, steps)

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing."""
        self._launching += 1
        try:
            await self._launcher.launch(step)
        finally:
            self._launching -= 1

    @property
    def launching(self) -> bool:
        """Whether a step is on its way: who launches it sees to its pods."""
        return self._launching > 0

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away."""
        await self._ender.gate(instance_id, wish)

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance."""
        await self._ender.stop(instance_id, grace)

    async def tend(self) -> Tended:
        """Finish or take back what was begun, adopt what came by itself; see `tending`."""
        return await self._tender.tend()
