"""What an operator asks of a node: cordon it, open it again, give it up for good."""

from __future__ import annotations

from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import CordonNode, ForgetAgent, UncordonNode
from heteroscale_coordinator.core.refused import RefusedError
from heteroscale_coordinator.core.state import Agent


def grant(draft: Draft, wish: ForgetAgent | CordonNode | UncordonNode) -> None:
    """Carry ``wish`` out.

    Raises:
        RefusedError: it cannot be, and why.

    """
    match wish:
        case ForgetAgent():
            _forget(draft, wish)
        case CordonNode():
            _cordon(draft, wish)
        case UncordonNode():
            _uncordon(draft, wish)


def _forget(draft: Draft, wish: ForgetAgent) -> None:
    """An operator knows what silence cannot tell: this is no partition, the host is gone."""
    if not _agent(draft, wish.agent_id).silent:
        raise RefusedError(
            f"{wish.agent_id} is heard: stop its agent first, or drain its instances"
        )
    gone(draft, wish.agent_id, f"node {wish.agent_id} is gone, an operator says")


def gone(draft: Draft, agent_id: str, message: str) -> None:
    """Give up, for others to be launched, what stood on a node that does not come back."""
    for instance in draft.instances_on(agent_id):
        if not instance.told_by(agent_id):
            continue  # its job is heard
        silent = life.fall_silent(instance, draft.now, message)
        draft.put_instance(life.give_up(silent, draft.now, message))
    for key in draft.cordons_of(agent_id):
        draft.drop_cordon(key)
    if agent_id in draft.state.agents:
        draft.state.forget_agent(agent_id)


def _agent(draft: Draft, agent_id: str) -> Agent:
    agent = draft.state.agents.get(agent_id)
    if agent is None:
        raise RefusedError(
            f"no node {agent_id!r}; `heteroscale get nodes` lists them", not_found=True
        )
    return agent


def _cordon(draft: Draft, wish: CordonNode) -> None:
    """Close a node or GPUs to launches; what runs there is not touched."""
    agent = _agent(draft, wish.agent_id)
    known = {gpu.index for gpu in agent.inventory.gpus}
    if strange := sorted(set(wish.gpus) - known):
        have = ", ".join(map(str, sorted(known))) or "none that it told of"
        raise RefusedError(f"{wish.agent_id} has no GPU {strange[0]}; it has {have}")
    gpus: list[int | None] = [*sorted(set(wish.gpus))]
    for gpu in gpus or [None]:
        draft.put_cordon(Cordon(wish.agent_id, gpu, wish.reason, draft.now))


def _uncordon(draft: Draft, wish: UncordonNode) -> None:
    """Take cordons back. Of a node that is cordoned as a whole no single GPU can be opened."""
    standing = draft.cordons_of(wish.agent_id)
    if not standing:
        _agent(draft, wish.agent_id)
        raise RefusedError(f"{wish.agent_id} is not cordoned")
    going = [one for one in standing.values() if not wish.gpus or one.gpu in wish.gpus]
    missing = sorted(set(wish.gpus) - {one.gpu for one in going if one.gpu is not None})
    if missing:
        whole = any(one.gpu is None for one in standing.values())
        hint = "the whole node is: uncordon it without --gpu" if whole else "it is open"
        raise RefusedError(f"GPU {missing[0]} of {wish.agent_id} is not cordoned by itself; {hint}")
    for one in going:
        draft.drop_cordon(one.key)
