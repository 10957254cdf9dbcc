"""Which GPUs of a node take nothing new, by what its last report says of them and of its ports.

A GPU is closed that does not answer its driver, had uncorrected ECC errors, had an Xid that is no
program's fault, runs a process of somebody else (another scheduler's job), or whose nearest RDMA ports,
once seen up, are all down. What runs there runs on and is told of. Unknown closes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.words import GpuHealth, NicDistance
from heteroscale_coordinator.core.devices import GpuFact, GpuSample, NicFact, NicSample
from heteroscale_coordinator.core.state import Agent

PROGRAM_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Xids that a program causes, and that its GPU survives: those that NVIDIA's device plugin for
Kubernetes does not count against a GPU."""
_FARTHEST = len(NicDistance)
_PLACE = {distance: place for place, distance in enumerate(NicDistance)}


def closed_gpus(agent: Agent) -> dict[int, str]:
    """Return why each GPU that takes nothing new does not, by index; healthy ones are left out."""
    if not agent.devices.suspect:
        return {}
    gpus, facts = agent.devices.gpus(), agent.inventory.gpus
    cut_off = _cut_off(facts, agent.inventory.nics, agent.devices.nics())
    why: dict[int, str] = {}
    for place, fact in enumerate(facts):
        seen = gpus[place] if place < len(gpus) else GpuSample()
        if said := _wrong_with(seen) or (cut_off[place] and "its RDMA ports are down"):
            why[fact.index] = said
    return why


def sick_gpus(agent: Agent) -> dict[int, str]:
    """Return the same without those that are only held by others: their hardware is well."""
    return {index: why for index, why in closed_gpus(agent).items() if not why.startswith(HELD)}


HELD = "held by "


def limping_gpus(agent: Agent) -> frozenset[int]:
    """Return the GPUs of whose nearest ports some are down and not all, by index: all closes them."""
    if not agent.devices.ports_down:
        return frozenset()
    nics, seen = agent.inventory.nics, agent.devices.nics()
    cabled = _cabled(nics, seen)
    down = {place for place in cabled if seen[place].active is False}
    if not down:
        return frozenset()
    near = ((gpu.index, down.issuperset, _nearest(gpu, cabled)) for gpu in agent.inventory.gpus)
    return frozenset(
        index for index, all_of, ports in near if not down.isdisjoint(ports) and not all_of(ports)
    )


def _wrong_with(seen: GpuSample) -> str:
    if seen.health is GpuHealth.LOST:
        return "lost"
    if seen.health is GpuHealth.ERROR:
        return "does not answer its driver"
    if seen.ecc_uncorrected:
        return f"uncorrected ECC errors ({seen.ecc_uncorrected})"
    if seen.xid_count and seen.last_xid and seen.last_xid not in PROGRAM_XIDS:
        return f"Xid {seen.last_xid}"
    if others := seen.foreign_process_count:
        return f"{HELD}{others} process{'es' if others > 1 else ''} of others"
    return ""


def _cut_off(
    gpus: Sequence[GpuFact], nics: Sequence[NicFact], seen: Sequence[NicSample]
) -> list[bool]:
    """Return of each GPU whether its nearest ports are down, all of them; never when one is unknown."""
    cabled = _cabled(nics, seen)
    down = {place for place in cabled if seen[place].active is False}
    if not down:
        return [False] * len(gpus)
    return [down.issuperset(_nearest(gpu, cabled)) for gpu in gpus]


def _cabled(nics: Sequence[NicFact], seen: Sequence[NicSample]) -> list[int]:
    """Return the ports that have been up: one that never had a rate is a socket without a cable."""
    return [place for place, fact in enumerate(nics) if fact.rate_gbps and place < len(seen)]


def _nearest(gpu: GpuFact, cabled: Sequence[int]) -> list[int]:
    """Return the cabled ports nearest to a GPU; all of them where distances are not told."""

    def far(place: int) -> int:
        told = gpu.nic_distances[place] if place < len(gpu.nic_distances) else None
        return _FARTHEST if told is None else _PLACE[told]

    least = min(map(far, cabled))
    return [place for place in cabled if far(place) == least]
