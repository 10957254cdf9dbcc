"""Orders of the core to one cluster: launches grouped into steps, the rest in each instance's order.

An order whose answer is not known is repeated in the same words until its own deadline, when the core
gives it up; what came of it is seen in the cluster then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import structlog

from heteroscale.words import InstanceState, Outcome, WithdrawReason
from heteroscale_coordinator.core.events import CommandAnswered
from heteroscale_coordinator.core.model import Command, CommandState, Instance, Verb
from heteroscale_coordinator.core.spec import DrainSpec
from heteroscale_coordinator.edge.adapters import translate
from heteroscale_coordinator.edge.adapters.caller import GaveUpError
from heteroscale_coordinator.edge.adapters.drains import Drain
from heteroscale_coordinator.edge.adapters.locks import Locks
from heteroscale_coordinator.edge.adapters.sight import Sight
from heteroscale_scheduler_adapters.port import (
    GateWish,
    Launch,
    Marking,
    Phase,
    RefusedError,
    Running,
    Step,
)

log = structlog.get_logger("heteroscale.adapters")

S = InstanceState
_BEFORE_TRAFFIC = (Phase.QUEUED, Phase.STARTING)


class Orders:
    """See the module."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._locks = Locks()
        self._jobs: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()

    def take(self, commands: Iterable[Command]) -> None:
        """Take what left in one turn, or was left open by a coordinator before. Nothing here waits."""
        steps: defaultdict[tuple[str, float], list[Command]] = defaultdict(list)
        for command in commands:
            if command.verb is Verb.LAUNCH:
                steps[command.cause, command.created_at].append(command)
            else:
                self._spawn(self._obey(command))
        for group in steps.values():
            self._spawn(self._launch(group))

    def busy(self, instance_id: str) -> bool:
        """Return whether something is under way with an instance of our own accord."""
        return instance_id in self._busy

    def gate(self, one: Running, wish: GateWish) -> None:
        """Gate an instance of our own accord: a lease is renewed, or over."""
        self._alone(one.instance_id, lambda: self._gate(one.instance_id, wish, self._soon()))

    def mark(self, node: str, reason: str) -> None:
        """Mark a node of our own accord, or take a mark of ours back."""

        async def work() -> None:
            sight = self._sight
            marking = cast(Marking, sight.adapter)
            try:
                await sight.caller.insist("mark", lambda: marking.mark(node, reason), self._soon())
            except RefusedError as error:
                log.warning("node not marked", node=node, why=str(error))
            else:
                log.warning("node marked", node=node, reason=reason or "well again")

        self._alone(f"node {node}", work)

    def stop(
        self, one: Running, grace: float, refused: Callable[[str], None] = lambda _: None
    ) -> None:
        """Stop an instance of our own accord: it is empty, or never got ready."""

        async def work() -> None:
            try:
                await self._stop(one.instance_id, grace, self._soon())
            except RefusedError as error:
                refused(str(error))

        self._alone(one.instance_id, work)

    async def close(self) -> None:
        """Give up what is under way; the next coordinator goes on with it."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    # ---- launches --------------------------------------------------------------------------------

    async def _launch(self, commands: Sequence[Command]) -> None:
        sight = self._sight
        until = min(command.expires_at for command in commands)
        try:
            await sight.caller.clearance(until)
            if not all(one.instance_id in sight.mirror.running for one in commands):
                step = self._step(commands)
                await sight.caller.insist(
                    "launch",
                    lambda: sight.adapter.launch(step),
                    until,
                    lambda: any(map(self._open, commands)),
                )
                sight.launched(step)
        except RefusedError as error:
            self._answer_all(commands, Outcome.REFUSED, str(error))
        except GaveUpError as error:
            self._given_up(commands, error)
        else:
            sight.show(cause=commands[0].command_id, only={c.instance_id for c in commands})
            self._answer_all(commands, Outcome.DONE, "")

    def _step(self, commands: Sequence[Command]) -> Step:
        state, prefix = self._sight.state, self._sight.prefix
        first = {one.instance_id: one for one in reversed(commands) if not one.rank}
        launches = []
        for instance_id in dict.fromkeys(one.instance_id for one in commands):
            order = first.get(instance_id)
            instance, service = state.instances.get(instance_id), None
            if instance is not None:
                service = state.services.get(instance.service)
            if order is None or instance is None or service is None:
                raise RefusedError(f"{instance_id} has lost its service, or its first rank")
            domain = self._domain(instance)
            launch = translate.launch(prefix, instance, service.spec, order, domain)
            if launch is None:
                raise RefusedError(f"{instance_id} is not all in {prefix.rstrip('/')}")
            launches.append(launch)
        name, cause = prefix.rstrip("/"), commands[0].cause
        return Step(translate.request_id(name, cause, commands), cause, self._able(launches))

    def _able(self, launches: Sequence[Launch]) -> tuple[Launch, ...]:
        able = self._sight.adapter.capabilities
        for one in launches:
            if len(one.ranks) > 1 and not able.several_ranks:
                raise RefusedError("this cluster launches no instances of several ranks")
            if not one.gate.open and not able.gates:
                # Nothing can hold it back, so it is in service as soon as it is ready.
                log.info("ratio hold left out", instance=one.instance_id, why="no gates there")
        if able.gates or able.own_agents:
            return tuple(launches)
        return tuple(replace(one, gate=GateWish(open=True)) for one in launches)

    def _domain(self, instance: Instance) -> str:
        """Return the domain that the instance's group shares."""
        state = self._sight.state
        mates = [instance]
        if instance.group:
            of_service = state.of_service(instance.service)
            mates = [one for one in of_service if one.group == instance.group]
        agents = {rank.agent_id for one in mates for rank in one.ranks if rank.agent_id}
        known = (state.agents.get(state.place_of(agent_id)) for agent_id in sorted(agents))
        return translate.domain_of([one.inventory.topology for one in known if one is not None])

    # ---- the others ------------------------------------------------------------------------------

    async def _obey(self, command: Command) -> None:
        try:
            async with self._locks.of(command.instance_id):
                await self._sight.caller.clearance(command.expires_at)
                if not self._open(command):
                    return
                outcome, message = await self._carry_out(command)
        except RefusedError as error:
            outcome, message = Outcome.REFUSED, str(error)
        except GaveUpError as error:
            self._given_up([command], error)
            return
        self._sight.show(cause=command.command_id, only={command.instance_id})
        self._answer_all([command], outcome, message)

    async def _carry_out(self, command: Command) -> tuple[Outcome, str]:
        one = self._sight.as_ordered(command.instance_id)
        if one is None:
            raise RefusedError(f"no instance {command.instance_id} in this cluster")
        if one.origin:
            raise RefusedError(f"{one.instance_id} is not ours: {one.origin} launched it")
        told = self._sight.facts.generation(command.instance_id, command.rank)
        if told is not None and told != command.expected_generation:
            expects = f"expects generation {command.expected_generation}"
            raise RefusedError(f"stale: {expects}, the instance is at {told} ({one.phase})")
        service = self._sight.state.services.get(command.service)
        drain = service.spec.drain if service is not None else DrainSpec()
        match command.verb:
            case Verb.WITHDRAW:
                return await self._withdraw(command, one, drain)
            case Verb.REINSTATE:
                return await self._reinstate(command, one)
            case Verb.DRAIN:
                return await self._drain(command, one, drain)
            case Verb.TERMINATE:
                await self._stop(one.instance_id, drain.grace, command.expires_at)
                return Outcome.ACCEPTED, "told to end"
            case _:
                raise RefusedError("a cluster's instances do not change their role: replace it")

    async def _withdraw(
        self, command: Command, one: Running, drain: DrainSpec
    ) -> tuple[Outcome, str]:
        self._can_gate(one)
        reason = command.reason or WithdrawReason.OPERATOR
        lease = drain.lease if command.lease is None else command.lease
        until = self._sight.now() + lease if reason in translate.LEASED else None
        wish = GateWish(False, reason.value, until)
        await self._gate(one.instance_id, wish, command.expires_at)
        return Outcome.DONE, f"withdrawn: {reason}"

    async def _reinstate(self, command: Command, one: Running) -> tuple[Outcome, str]:
        self._can_gate(one)
        await self._gate(one.instance_id, GateWish(open=True), command.expires_at)
        return Outcome.DONE, "reinstated"

    async def _drain(self, command: Command, one: Running, drain: DrainSpec) -> tuple[Outcome, str]:
        if one.phase in _BEFORE_TRAFFIC and not self._sight.facts.was_ready(one.instance_id):
            await self._stop(one.instance_id, drain.grace, command.expires_at)
            return Outcome.ACCEPTED, "stopped before it was ready"
        if not self._sight.adapter.capabilities.gates and self._ends_anyhow(one):
            # Its cluster would send TERM at the end too, and a successor serves: sooner is no worse.
            await self._stop(one.instance_id, drain.grace, command.expires_at)
            return Outcome.ACCEPTED, "told to end: it cannot be emptied first here"
        self._can_gate(one)
        lease = drain.lease if command.lease is None else command.lease
        wish = GateWish(False, translate.DRAINING, self._sight.now() + lease)
        await self._gate(one.instance_id, wish, command.expires_at)
        self._sight.drains[one.instance_id] = Drain.of(command, drain, one.role)
        return Outcome.ACCEPTED, "draining"

    def _ends_anyhow(self, one: Running) -> bool:
        """Return whether the core renews an instance: its cluster ends it soon."""
        known = self._sight.state.instances.get(one.instance_id)
        return known is not None and known.leaves_by is not None

    def _can_gate(self, one: Running) -> None:
        if one.phase in (Phase.STOPPING, Phase.ENDED, Phase.FAILED):
            raise RefusedError(f"{one.instance_id} is {one.phase}, and does not come back")
        if not self._sight.adapter.capabilities.gates:
            raise RefusedError(
                "this cluster cannot keep traffic from an instance: it is neither withdrawn nor emptied"
            )

    # ---- calls -----------------------------------------------------------------------------------

    async def _gate(self, instance_id: str, wish: GateWish, until: float) -> None:
        sight = self._sight
        await sight.caller.insist("gate", lambda: sight.adapter.gate(instance_id, wish), until)
        sight.gated(instance_id, wish)

    async def _stop(self, instance_id: str, grace: float, until: float) -> None:
        sight = self._sight
        await sight.caller.insist("stop", lambda: sight.adapter.stop(instance_id, grace), until)
        sight.stopped(instance_id)

    def _soon(self) -> float:
        return self._sight.now() + self._sight.pace.echo

    def _alone(self, instance_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something of our own accord, unless it is being done."""
        if instance_id in self._busy:
            return
        self._busy.add(instance_id)

        async def job() -> None:
            try:
                async with self._locks.of(instance_id):
                    await work()
                self._sight.show(only={instance_id})
            except (RefusedError, GaveUpError) as error:
                log.warning("not done", instance=instance_id, why=str(error))
            finally:
                self._busy.discard(instance_id)

        self._spawn(job())

    # ---- answers ---------------------------------------------------------------------------------

    def _open(self, command: Command) -> bool:
        known = self._sight.state.commands.get(command.command_id)
        return known is not None and known.state is CommandState.OPEN

    def _answer_all(self, commands: Iterable[Command], outcome: Outcome, message: str) -> None:
        for one in commands:
            answer = CommandAnswered(one.agent_id, one.command_id, outcome, message)
            self._sight.put(answer)

    def _given_up(self, commands: Sequence[Command], error: GaveUpError) -> None:
        """Say nothing to the core: whether it was done is not known, and time tells."""
        log.warning(
            "order given up",
            cluster=self._sight.prefix.rstrip("/"),
            verb=commands[0].verb.value,
            commands=[one.command_id for one in commands],
            why=str(error) or "not wanted any more",
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("order raised", cluster=self._sight.prefix.rstrip("/"), exc_info=error)
