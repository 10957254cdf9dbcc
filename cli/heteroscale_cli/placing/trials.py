"""What a half-open breaker leaves of the fleet to one plan: one instance each, as a trial."""

from __future__ import annotations

from collections.abc import Iterable

from heteroscale_cli.placing.inventory import Node
from heteroscale_coordinator.core.placement import choose


def kept_back(nodes: Iterable[Node], gpus: int) -> dict[str, frozenset[int]]:
    """Return the free GPUs that no trial may take, by agent, as ``core.sites`` keeps them back.

    ``gpus``: what one instance of each role takes, all that is offered where only one is tried.
    """
    found: dict[str, frozenset[int]] = {}
    for node in nodes:
        if not (node.trial or node.trial_types):
            continue
        view, free = node.view, frozenset(node.view.free)
        tried = [index for index in free if view.gpu_types[index] in node.trial_types]
        offered = free.difference(tried).union(choose(tried, gpus, view.layout))
        if node.trial:
            offered = frozenset(choose(offered, gpus, view.layout))
        found[view.agent_id] = free - offered
    return found
