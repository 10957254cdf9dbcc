"""The client library that the product uses, as it writes its queries and reads its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes_asyncio import client, config, watch

from tests.kubernetes.kube import Kube
from tests.kubernetes.played.whole import play
from tests.kubernetes.reach import read
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import pod


@pytest.fixture
async def api(kube: Kube) -> AsyncIterator[client.ApiClient]:
    settings = client.Configuration()
    await config.load_kube_config(str(kube.config), client_configuration=settings)
    async with client.ApiClient(settings) as made:
        yield made


async def test_list_and_watch(kube: Kube, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    # Built-in kinds need not say what they are: their path does.
    spec = client.V1PodSpec(containers=[client.V1Container(name="a", image="b:1")])
    wish = client.V1Pod(metadata=client.V1ObjectMeta(name="a"), spec=spec)
    await core.create_namespaced_pod(kube.namespace, wish)
    listed = await core.list_namespaced_pod(kube.namespace)
    assert [one.metadata.name for one in listed.items] == ["a"]
    kube.create(pod("b"))
    stream = watch.Watch().stream(
        core.list_namespaced_pod,
        kube.namespace,
        resource_version=listed.metadata.resource_version,
        allow_watch_bookmarks=True,
        timeout_seconds=30,
    )
    async with stream as events:
        async for event in events:
            if event["type"] == "ADDED":
                assert event["object"].metadata.name == "b"
                break


async def test_a_watch_from_too_long_ago(kube: Kube, api: client.ApiClient) -> None:
    core: Any = client.CoreV1Api(api)
    stream = watch.Watch().stream(
        core.list_namespaced_pod, kube.namespace, resource_version="1", timeout_seconds=30
    )
    async with stream as events:
        with pytest.raises(client.ApiException) as refused:
            await anext(events)
    assert refused.value.status == 410


def test_over_tls(tmp_path: Any) -> None:
    server = ApiServer(controllers=play, tls=True).start()
    try:
        path = server.kubeconfig(tmp_path / "kubeconfig")
        with read(path).client() as http:
            assert http.get("/version").json()["minor"] == "36"
    finally:
        server.stop()
