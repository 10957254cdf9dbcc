from __future__ import annotations

import asyncio

from heteroscale_scheduler_adapters.kubernetes import create
from heteroscale_scheduler_adapters.port import Launch, Phase, Spot, Step
from tests.kubernetes.adapter.things import CONTAINERS
from tests.kubernetes.kube import LONG, Kube
from tests.kubernetes.things import node


async def test_what_is_launched_is_told_and_can_be_stopped(small_kube: Kube) -> None:
    small_kube.create(node(small_kube.name("n1")))
    template = {
        "name": "pods",
        "role": "decode",
        "gpus": 1,
        "pod": {"spec": {"containers": CONTAINERS}},
    }
    options = {
        "kubeconfig": str(small_kube.config), "namespace": small_kube.namespace, "templates": [template],
    }  # fmt: skip
    adapter = create("east", options)
    await adapter.open()
    try:
        launch = Launch("i-1", "chat", "decode", "pods", (Spot(small_kube.name("n1")),), 1)
        await adapter.launch(Step("r-1", "d-1", (launch,)))
        world = await adapter.world()
        assert [one.name for one in world.templates] == ["pods"]
        assert world.running["i-1"].request_id == "r-1"
        assert world.running["i-1"].phase in (Phase.QUEUED, Phase.STARTING, Phase.READY)
        await adapter.stop("i-1", 0.0)
        async with asyncio.timeout(LONG):
            while True:
                if "i-1" not in (await adapter.world()).running:
                    break
                await asyncio.sleep(0.05)
    finally:
        await adapter.close()
