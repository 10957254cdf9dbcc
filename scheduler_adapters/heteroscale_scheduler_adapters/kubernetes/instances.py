"""From the pods of one instance to the port's ``Running``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heteroscale_scheduler_adapters.kubernetes.pods import Member, SeenPod
from heteroscale_scheduler_adapters.port import Phase, Running, Spot, Turn

_GOING = (Phase.STOPPING, Phase.ENDED)
Rank = tuple[int, Member, SeenPod]


def running(pods: Iterable[SeenPod], kept: str = "", turn: Turn | None = None) -> Running | None:
    """Return an instance as all of its pods tell it; None: none of them is one of its ranks.

    ``kept`` says why it cannot leave now, ``turn`` when it can.
    """
    ranks = _ranks(pods)
    if not ranks:
        return None
    _, lead, first = ranks[0]
    number = max(lead.ranks, ranks[-1][0] + 1)
    by_rank = {rank: pod for rank, _, pod in ranks}
    phase, message = _phase([pod for _, _, pod in ranks], number)
    seen = [member.gate_seen for _, member, _ in ranks if member.rank == 0]
    nodes = [by_rank[rank].node if rank in by_rank else "" for rank in range(number)]
    has_head = lead.rank == 0
    return Running(
        instance_id=lead.instance_id or f"pod-{first.uid}",
        service=lead.service,
        role=lead.role,
        phase=phase,
        ranks=tuple(map(Spot, nodes)),
        gate=lead.gate,
        gate_seen=seen[0] if seen else False,
        endpoint=lead.endpoint if has_head else "",
        names=lead.names if has_head else (),
        group=lead.group,
        template=lead.template,
        origin=lead.origin,
        request_id=lead.request_id,
        message=message,
        since=max((pod.since for _, _, pod in ranks), default=0.0),
        kept=kept if phase is Phase.READY else "",
        turn=turn,
    )


def _ranks(pods: Iterable[SeenPod]) -> list[Rank]:
    """Return one pod of each rank, by rank: the one that lives, where another is on its way out."""
    found: dict[int, Rank] = {}
    for pod in sorted(pods, key=lambda pod: (pod.phase in (*_GOING, Phase.FAILED), pod.key)):
        if pod.member is not None:
            found.setdefault(pod.member.rank, (pod.member.rank, pod.member, pod))
    return [found[rank] for rank in sorted(found)]


def _phase(pods: Sequence[SeenPod], number: int) -> tuple[Phase, str]:
    """Return how far an instance is: as far as the least of its ranks."""
    phases = {pod.phase for pod in pods}
    said = "; ".join(dict.fromkeys(pod.message for pod in pods if pod.message))
    if Phase.FAILED in phases:
        return Phase.FAILED, "; ".join(p.message for p in pods if p.phase is Phase.FAILED)
    if phases & set(_GOING):
        return (Phase.ENDED if phases == {Phase.ENDED} else Phase.STOPPING), said
    if number > len(pods):
        return _incomplete(pods, number)
    if Phase.QUEUED in phases:
        return Phase.QUEUED, said
    return (Phase.READY if phases == {Phase.READY} else Phase.STARTING), said


def _incomplete(pods: Sequence[SeenPod], number: int) -> tuple[Phase, str]:
    missing = f"{number - len(pods)} of its {number} pods"
    queued = [pod.phase is Phase.QUEUED for pod in pods]
    if not all(queued) and not any(pod.owned for pod in pods):
        return Phase.FAILED, f"{missing} are gone"
    return (Phase.QUEUED if any(queued) else Phase.STARTING), f"{missing} are not there"
