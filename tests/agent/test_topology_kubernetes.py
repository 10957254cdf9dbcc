"""Network domains from the labels of a Kubernetes node, over TLS, with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.probes.topology import Found, look
from tests.agent.kube_twin import KubeTwin, kube_twin


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[KubeTwin]:
    async with kube_twin(tmp_path) as running:
        yield running


async def ask(twin: KubeTwin, **access: str) -> Found:
    document = {
        "coordinator": "127.0.0.1:1",
        "topologyFrom": [{"kubernetes": {}, "timeout": "20s"}],
        "kubernetes": {**twin.access, **access},
    }
    return await look(AgentSpec.model_validate(document), {}, 60)


async def problem(twin: KubeTwin, **access: str) -> str:
    found = await ask(twin, **access)
    assert found.levels == {}
    (said,) = found.problems
    return said


async def test_the_labels_of_topograph(twin: KubeTwin) -> None:
    nvidia = "network.topology.nvidia.com"
    twin.nodes["node-1"] = {
        f"{nvidia}/accelerator": "nvl-7",
        f"{nvidia}/leaf": "leaf-3",
        f"{nvidia}/spine": "spine-1",
        f"{nvidia}/core": "core-0",
        "topology.kubernetes.io/zone": "east-1a",
        "topology.kubernetes.io/region": "east-1",
        "kubernetes.io/hostname": "node-1",
    }
    found = await ask(twin)
    assert found.levels == {
        "s0": "nvl-7",
        "s1": "leaf-3",
        "s2": "spine-1",
        "logical_cluster": "core-0",
        "physical_cluster": "east-1a",
        "vdc": "east-1",
    }
    assert found.sources["s1"] == f"label {nvidia}/leaf of kubernetes node node-1"


@pytest.mark.parametrize(
    ("labels", "s1", "s2"),
    [
        (
            {"network.topology.nvidia.com/block": "b", "network.topology.nvidia.com/spine": "s"},
            "b",
            "s",
        ),
        ({"fabric.topograph.run/tier-0": "t0", "fabric.topograph.run/tier-1": "t1"}, "t0", "t1"),
        (
            {
                "cloud.google.com/gce-topology-host": "h",
                "cloud.google.com/gce-topology-subblock": "sub",
                "cloud.google.com/gce-topology-block": "block",
            },
            "sub",
            "block",
        ),
        (
            {
                "topology.k8s.aws/network-node-layer-2": "nn-2",
                "topology.k8s.aws/network-node-layer-3": "nn-3",
            },
            "nn-3",
            "nn-2",
        ),
    ],
)
async def test_other_labels(twin: KubeTwin, labels: dict[str, str], s1: str, s2: str) -> None:
    twin.nodes["node-1"] = labels
    found = await ask(twin)
    assert (found.levels["s1"], found.levels["s2"]) == (s1, s2)


async def test_labels_of_ones_own(twin: KubeTwin) -> None:
    twin.nodes["node-1"] = {"rack": "r-9", "row": "4", "topology.kubernetes.io/zone": "z"}
    labels = {"s1": ["leaf", "rack"], "physical_cluster": []}
    document = {
        "coordinator": "127.0.0.1:1",
        "topologyFrom": [{"kubernetes": {"labels": labels}, "timeout": "20s"}],
        "kubernetes": twin.access,
    }
    found = await look(AgentSpec.model_validate(document), {}, 60)
    assert found.levels == {"s1": "r-9"}


async def test_the_node_is_asked_for_its_metadata_with_the_token(twin: KubeTwin) -> None:
    await ask(twin)
    (request,) = twin.requests
    assert request.path == "/api/v1/nodes/node-1"
    assert request.headers["Authorization"] == f"Bearer {twin.token}"
    assert request.headers["Accept"].startswith("application/json;as=PartialObjectMetadata")


# ---- what can be wrong ------------------------------------------------------------------------


async def test_a_token_that_is_not_taken(twin: KubeTwin) -> None:
    twin.token_file.write_text("another")
    assert "HTTP 401" in await problem(twin)


async def test_a_token_that_was_rotated(twin: KubeTwin) -> None:
    twin.nodes["node-1"] = {"topology.kubernetes.io/zone": "z"}
    twin.token = "rotated"
    twin.token_file.write_text("rotated\n")
    assert (await ask(twin)).levels == {"physical_cluster": "z"}


async def test_a_right_that_is_missing(twin: KubeTwin) -> None:
    twin.failing = web.Response(status=403)
    assert "ClusterRole" in await problem(twin)


async def test_a_node_of_another_name(twin: KubeTwin) -> None:
    assert "nodeName" in await problem(twin, nodeName="node-9")


async def test_a_server_of_another_authority(twin: KubeTwin) -> None:
    trustme.CA().cert_pem.write_to_path(str(twin.ca_file))
    assert "CERTIFICATE_VERIFY_FAILED" in await problem(twin)
    assert twin.requests == []


@pytest.mark.parametrize("content", ["", "no certificate"])
async def test_an_authority_that_is_none(twin: KubeTwin, content: str) -> None:
    twin.ca_file.write_text(content)
    assert "no certificate" in await problem(twin)


async def test_files_that_are_missing(twin: KubeTwin) -> None:
    twin.token_file.unlink()
    assert "No such file" in await problem(twin)


@pytest.mark.parametrize("token", ["", "two\nlines", "ümlaut"])
async def test_a_token_that_is_none(twin: KubeTwin, token: str) -> None:
    twin.token_file.write_text(token)
    assert "holds no token" in await problem(twin)


async def test_a_host_that_is_in_no_pod(twin: KubeTwin) -> None:
    assert "not in a pod" in await problem(twin, apiServer="")


async def test_a_token_is_not_sent_in_the_clear(twin: KubeTwin) -> None:
    assert "not https" in await problem(twin, apiServer="http://192.0.2.1:80")


async def test_a_server_that_hangs_or_is_gone(twin: KubeTwin) -> None:
    twin.hangs = True
    document = {
        "coordinator": "127.0.0.1:1",
        "topology": {"s2": "pod"},
        "topologyFrom": [{"kubernetes": {}, "timeout": "100ms"}],
        "kubernetes": twin.access,
    }
    found = await look(AgentSpec.model_validate(document), {}, 60)
    assert found.levels == {"s2": "pod"}
    assert "within 0.1 s" in found.problems[0]
    assert "127.0.0.1:1" in await problem(twin, apiServer="https://127.0.0.1:1")
