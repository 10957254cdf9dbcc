"""``stage``: a cluster whose controllers a test moves by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.adapter.stage import Stage
from tests.kubernetes.kube import Kube
from tests.kubernetes.played.base import Controller, Play
from tests.kubernetes.played.basics import Accounts, Definitions, Namespaces, Quotas, Rubbish
from tests.kubernetes.server.calls import Shared
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import node


def _bare(shared: Shared) -> None:
    """Play no controllers of workloads: `Stage` does, a turn at a time."""
    basics: list[Controller] = [Accounts(), Definitions(), Quotas(), Namespaces(), Rubbish()]
    Play(shared, basics).on(asyncio.get_running_loop())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    server = ApiServer(controllers=_bare).start()
    kube = Kube(server.kubeconfig(tmp_path / "kubeconfig"), server).open()
    kube.create(node(kube.name("n1"), labels={"rack": "r7"}))
    yield Stage(kube)
    kube.close()
    server.stop()
