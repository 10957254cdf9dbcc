"""What the GPUs and ports of an instance said, beside its engine's sample: three bytes of percent.

Folded with every report, so it is lean: the devices of a report have these readings at hand as bytes,
in the order of their host's inventory. Unknown is a byte of its own, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale_coordinator.core.devices import NO_DEVICES, UNTOLD
from heteroscale_coordinator.core.model import EngineSample, Instance, Rank
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.track import UNTOLD as NOTHING


def hardware_of(agents: Mapping[str, Agent], instance: Instance, sample: EngineSample) -> bytes:
    """Return (GPU utilisation, SM activity, busiest port) of all ranks: a row of a track's hardware.

    Utilisation and activity are means over the GPUs that tell. Where the driver tells the use of the
    instance's own processes, that is its utilisation: other instances may share its GPUs. A use of 0 is
    no word against GPUs that are busy: its processes may not have been told apart.
    """
    busy: list[int] = []
    active: list[int] = []
    share = UNTOLD
    for rank in instance.ranks:
        agent = agents.get(rank.voice)
        if agent is None or agent.devices is NO_DEVICES:
            continue
        devices = agent.devices
        utilization, activity = devices.utilization, devices.sm_activity
        for place in _places(agent, rank):
            if place < len(utilization) and utilization[place] != UNTOLD:
                busy.append(utilization[place])
            if place < len(activity) and activity[place] != UNTOLD:
                active.append(activity[place])
        told = devices.port_share
        if told != UNTOLD:
            share = told if share == UNTOLD else max(share, told)
    own = sample.gpu_percent
    if own is None and not busy and not active and share == UNTOLD:
        return NOTHING
    return bytes((round(own) if own else _mean(busy, own), _mean(active), share))


def _mean(values: list[int], otherwise: float | None = None) -> int:
    if values:
        return round(sum(values) / len(values))
    return UNTOLD if otherwise is None else round(otherwise)


def _places(agent: Agent, rank: Rank) -> Iterable[int]:
    """Return where the GPUs of a rank stand in its agent's inventory: in a job's, all are its own."""
    if rank.speaker:
        return range(len(agent.inventory.gpus))
    return (_place(agent, index) for index in rank.gpu_indices)


def _place(agent: Agent, index: int) -> int:
    """Return where a GPU stands in its host's inventory: nearly always at its own index."""
    gpus = agent.inventory.gpus
    if index < len(gpus) and gpus[index].index == index:
        return index
    return next((place for place, gpu in enumerate(gpus) if gpu.index == index), index)
