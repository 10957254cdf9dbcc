"""``kube``: a cluster to each test, of KUBECONFIG if that is given, else our small server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.played.whole import play
from tests.kubernetes.server.serve import ApiServer


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    """Our server, with all that is played beside it."""
    server = ApiServer(controllers=play).start()
    yield server
    server.stop()


@pytest.fixture
def small_kube(api_server: ApiServer, tmp_path: Path) -> Iterator[Kube]:
    """A place in our server, for tests that need its faults and its looks."""
    kube = Kube(api_server.kubeconfig(tmp_path / "kubeconfig"), api_server).open()
    yield kube
    kube.close()


@pytest.fixture
def kube(request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A place in the cluster that the tests are run against."""
    named = os.environ.get("KUBECONFIG", "")
    if not named:
        yield request.getfixturevalue("small_kube")
        return
    kube = Kube(Path(named)).open()
    yield kube
    kube.close()


@pytest.fixture
def kubelet(kube: Kube) -> Kubelet:
    """The kubelets of the nodes that a test makes."""
    return Kubelet(kube)
