"""Which agents have a stream, and which of two that claim one id is the right one.

An agent id is one process at a time. A second process of a live id is refused, for it is a copied
state directory; the same process coming back, or any after the first has gone or fallen silent,
takes the place. Lower incarnations are refused: they are processes of the past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from heteroscale_coordinator.edge.session import Peer, Refusal, Session


@dataclass(frozen=True, slots=True)
class _Past:
    """The last stream of an agent."""

    incarnation: int
    left_at: float


class Sessions:
    """The live streams by agent id. Times are seconds on the coordinator's clock."""

    def __init__(self, *, takeover_after: float, forget_after: float = 3_600.0) -> None:
        self._takeover_after = takeover_after
        """A stream silent for longer gives way to another process of its id."""
        self._forget_after = forget_after
        """Incarnations of agents that left are remembered so long."""
        self._live: dict[str, Session] = {}
        self._past: dict[str, _Past] = {}
        self._epoch = 0
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._live.values()))

    def get(self, agent_id: str) -> Session | None:
        """Return the live stream of an agent."""
        return self._live.get(agent_id)

    def check(self, peer: Peer, now: float) -> None:
        """Raise Refusal when ``peer`` may not have the stream of its agent id."""
        first = self._live.get(peer.agent_id)
        if first is None:
            past = self._past.get(peer.agent_id)
            if past is not None and peer.incarnation < past.incarnation:
                raise _outdated(peer, past.incarnation)
            return
        silent = now - first.heard_at
        other = first.peer.token != peer.token
        if other and silent <= self._takeover_after:
            raise Refusal(
                grpc.StatusCode.ALREADY_EXISTS,
                f"agent id {peer.agent_id!r} is taken by a live process on host "
                f"{first.peer.hostname!r} ({first.peer.address}), last heard {silent:.1f} s ago; two "
                "agents need two state directories, and a copied one a new agent id",
            )
        if peer.incarnation < first.peer.incarnation:
            raise _outdated(peer, first.peer.incarnation)

    def join(self, session: Session, now: float) -> None:
        """Make ``session`` the stream of its agent, ending the one before; check before, same step."""
        self.check(session.peer, now)
        agent_id = session.peer.agent_id
        before = self._live.get(agent_id)
        self._live[agent_id] = session
        if before is not None:
            before.end(grpc.StatusCode.ABORTED, f"a newer stream of agent {agent_id!r} took over")

    def leave(self, session: Session, now: float) -> bool:
        """Forget ``session``; False when another has taken its place already."""
        agent_id = session.peer.agent_id
        if self._live.get(agent_id) is not session:
            return False
        del self._live[agent_id]
        self._past[agent_id] = _Past(session.peer.incarnation, now)
        return True

    def tell(self, epoch: int, agent_id: str) -> None:
        """Note that ``agent_id`` hears ``epoch`` from us, and every live agent with its next command."""
        if self._epoch != epoch:
            self._epoch, self._told = epoch, set(self._live)
        self._told.add(agent_id)

    def told(self, agent_id: str, epoch: int) -> bool:
        """Return whether we ourselves told the agent this epoch."""
        return epoch == self._epoch and agent_id in self._told

    def forget(self, now: float) -> None:
        """Drop what is remembered of agents that left long ago."""
        gone = [key for key, past in self._past.items() if now - past.left_at > self._forget_after]
        for agent_id in gone:
            del self._past[agent_id]
            if agent_id not in self._live:
                self._told.discard(agent_id)


def _outdated(peer: Peer, known: int) -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"agent {peer.agent_id!r} says incarnation {peer.incarnation}, but {known} has been heard: "
        "its state directory is an old copy, or was lost; give it a new agent id",
    )
