"""After the commit: commands to their agents' streams, leases renewed, lost workers out of routers.

A command whose agent has no stream waits here, and is sent when the agent comes back before its
deadline; agents answer a repeated id with their first answer, so sending twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import grpc
import structlog

from heteroscale_coordinator.core.events import (
    AskHello,
    Changes,
    RemoveFromRouters,
    RenewLeases,
)
from heteroscale_coordinator.core.model import Action, Command, CommandState, Decision, Verb
from heteroscale_coordinator.core.spec import DrainSpec
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge import orders
from heteroscale_coordinator.edge.routers import Routers
from heteroscale_coordinator.edge.session import Session
from heteroscale_coordinator.edge.sessions import Sessions

log = structlog.get_logger("heteroscale.dispatch")


class Clusters(Protocol):
    """Clusters whose nodes are told of, and driven, as agents are. Nothing here waits."""

    def owns(self, agent_id: str) -> bool:
        """Return whether an agent is a node of one of them."""
        ...

    def order(self, commands: Sequence[Command]) -> None:
        """Take the new orders of one turn."""
        ...

    def renew(self, renewal: RenewLeases) -> None:
        """Renew leases of a node's instances."""
        ...

    def greet(self, agent_id: str) -> None:
        """Say hello again for a node."""
        ...

    def end(self, instance_id: str, grace: float) -> bool:
        """Stop by force an instance whose own agent is not there; False: it is none of theirs."""
        ...


class Dispatcher:
    """The loop's outlet. Nothing here waits."""

    def __init__(
        self,
        sessions: Sessions,
        routers: Routers,
        now: Callable[[], float],
        clusters: Clusters | None = None,
    ) -> None:
        self._sessions = sessions
        self._clusters = clusters
        self._routers = routers
        self._now = now
        self._open: dict[str, dict[str, Command]] = {}
        """Open commands by agent: what a reconnecting agent is sent again."""
        self._advised: dict[str, str] = {}
        """By service, the last advice that was logged: it is given anew each tick until it is taken."""

    def restore(self, state: State) -> None:
        """Take over the open commands of a coordinator before us."""
        for command in state.commands.values():
            if command.state is CommandState.OPEN:
                self._open.setdefault(command.agent_id, {})[command.command_id] = command

    def dispatch(self, changes: Changes, state: State, epoch: int) -> None:
        """Send what is new and open, and carry out the effects; answers are the loop's."""
        for decision in changes.decisions:
            self._log_decision(decision)
        new: list[Command] = []
        for command_id, command in changes.commands.items():
            if command is None or command.state is not CommandState.OPEN:
                self._close(command_id, command)
            elif command_id not in self._open.setdefault(command.agent_id, {}):
                self._open[command.agent_id][command_id] = command
                self._log(command)
                new.append(command)
        self._send_all(new, state, epoch)
        for effect in changes.effects:
            if isinstance(effect, RenewLeases):
                self.renew([effect], epoch)
            elif isinstance(effect, RemoveFromRouters):
                self._routers.remove(effect)
            elif isinstance(effect, AskHello):
                self._ask_hello(effect)

    def _send_all(self, new: Iterable[Command], state: State, epoch: int) -> None:
        """Send new commands: clusters get those of a turn together, for they start steps whole."""
        theirs: list[Command] = []
        for command in new:
            if self._clusters is not None and self._clusters.owns(command.agent_id):
                theirs.append(command)
            elif (session := self._sessions.get(command.agent_id)) is not None:
                self._send(session, command, state, epoch)
            else:
                self._force(command, state)
        if self._clusters is not None and theirs:
            self._clusters.order(theirs)

    def _force(self, command: Command, state: State) -> None:
        """Have a cluster stop what its own agent is not there to stop."""
        if command.verb is Verb.TERMINATE and self._clusters is not None:
            service = state.services.get(command.service)
            grace = (service.spec.drain if service is not None else DrainSpec()).grace
            instance = state.instances.get(command.instance_id)
            if instance is not None and not instance.told_by(command.agent_id):
                return  # another speaks for it; who left was told to go
            if self._clusters.end(command.instance_id, grace):
                log.info("stopped by its cluster", instance=command.instance_id)

    def _ask_hello(self, asked: AskHello) -> None:
        if self._clusters is not None and self._clusters.owns(asked.agent_id):
            self._clusters.greet(asked.agent_id)
            return
        session = self._sessions.get(asked.agent_id)
        if session is not None and session.peer.incarnation == asked.incarnation:
            text = f"agent {asked.agent_id!r} was forgotten while it was silent: say hello again"
            session.end(grpc.StatusCode.UNAVAILABLE, text)

    def renew(self, leases: Iterable[RenewLeases], epoch: int) -> None:
        """Send lease renewals to the agents that are there."""
        for renewal in leases:
            if self._clusters is not None and self._clusters.owns(renewal.agent_id):
                self._clusters.renew(renewal)
            elif (session := self._sessions.get(renewal.agent_id)) is not None:
                session.renew(renewal.leases, epoch)

    def resend(self, session: Session, state: State, epoch: int) -> None:
        """Send an agent that came back everything that is open and can still be carried out."""
        now = self._now()
        for command in self._open.get(session.peer.agent_id, {}).values():
            if command.expires_at > now:
                self._send(session, command, state, epoch)
        for command in self._waiting_for(session.peer.agent_id, state):
            if (other := self._sessions.get(command.agent_id)) is not None:
                self._send(other, command, state, epoch)

    def _waiting_for(self, leader: str, state: State) -> list[Command]:
        """Return open launches of other ranks whose first rank is on ``leader``."""
        return [
            command
            for commands in self._open.values()
            for command in commands.values()
            if command.rank
            and command.verb is Verb.LAUNCH
            and (instance := state.instances.get(command.instance_id)) is not None
            and instance.voice == leader
        ]

    def _send(self, session: Session, command: Command, state: State, epoch: int) -> None:
        instance = state.instances.get(command.instance_id)
        leader = self._sessions.get(instance.voice) if instance and command.rank else None
        if command.rank and command.verb is Verb.LAUNCH and leader is None:
            return  # it needs rank 0's host, which rank 0's agent tells when it comes
        message = orders.command(
            command,
            instance,
            state.services.get(command.service),
            epoch=epoch,
            now=self._now(),
            leader_host=leader.peer.advertise_host if leader else "",
        )
        if message is None:
            log.warning("launch has lost its service", command=command.command_id)
        else:
            session.send(message)

    def _close(self, command_id: str, command: Command | None) -> None:
        if command is not None:
            self._log(command)
        owners = [command.agent_id] if command is not None else list(self._open)
        for agent_id in owners:
            waiting = self._open.get(agent_id)
            if waiting is None:
                continue
            waiting.pop(command_id, None)
            if not waiting:
                del self._open[agent_id]

    def _log_decision(self, decision: Decision) -> None:
        advised = self._advised.pop(decision.service, "")
        if decision.action is Action.HOLD:
            return
        if decision.advisory:
            said = f"{decision.action} {dict(decision.delta)} {decision.bound_by}"
            self._advised[decision.service] = said
            if said == advised:
                return
        log.info(
            "decision",
            cause=decision.decision_id,
            service=decision.service,
            action=decision.action.value,
            reason=decision.reason,
            advisory=decision.advisory,
        )

    @staticmethod
    def _log(command: Command) -> None:
        log.info(
            "command" if command.state is CommandState.OPEN else f"command {command.state.value}",
            verb=command.verb.value,
            command=command.command_id,
            cause=command.cause,
            agent=command.agent_id,
            instance=command.instance_id,
            service=command.service,
            **({"message": command.message} if command.message else {}),
        )
