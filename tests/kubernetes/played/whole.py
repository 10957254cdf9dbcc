"""All that is played beside the server."""

from __future__ import annotations

import asyncio

from tests.kubernetes.played.base import Controller, Play
from tests.kubernetes.played.basics import Accounts, Definitions, Namespaces, Quotas, Rubbish
from tests.kubernetes.played.budgets import Budgets
from tests.kubernetes.played.ordinals import LeaderWorkerSets, StatefulSets
from tests.kubernetes.played.replicas import Deployments, ReplicaSets
from tests.kubernetes.played.scheduler import Collector, Scheduler
from tests.kubernetes.server.calls import Shared


def controllers() -> list[Controller]:
    """Return one of each."""
    return [
        Accounts(), Definitions(), Quotas(), Namespaces(), Rubbish(), Deployments(), ReplicaSets(),
        LeaderWorkerSets(), StatefulSets(), Budgets(), Collector(), Scheduler(),
    ]  # fmt: skip


def play(shared: Shared) -> None:
    """Have all controllers run on the server's loop; to be called on its thread."""
    Play(shared, controllers()).on(asyncio.get_running_loop())
