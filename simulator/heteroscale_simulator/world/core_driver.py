"""Drives the coordinator's own turn: the events that real agents cause go in, its commands are obeyed.

Nothing of the policy is here, and nothing of it is changed: ``core.step`` gets hellos, reports,
changes and answers, and says what to launch, withdraw, reinstate and drain.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import count

from heteroscale.words import Outcome, WithdrawReason
from heteroscale_coordinator.core.events import (
    AgentConnected,
    ApplyService,
    Changes,
    CommandAnswered,
    Event,
    Tick,
)
from heteroscale_coordinator.core.model import Action, Command, CommandState, RankFact, Verb
from heteroscale_coordinator.core.model import Decision as CoreDecision
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import due, renewals
from heteroscale_coordinator.zones import ZonedStep
from heteroscale_simulator.fleet import FleetSpec
from heteroscale_simulator.world import agents
from heteroscale_simulator.world.result import Decision
from heteroscale_simulator.world.telemetry import Telemetry
from heteroscale_simulator.world.twin import RUNNING, Order, Post, S, Twin
from heteroscale_simulator.world.yard import Yard

START = 1_000_000.0
"""The coordinator's clock at second 0, unless said: any moment will do that is not 0 and whose windows
of a schedule do not matter."""
_DIRECTION = {
    Action.SCALE_OUT: 1,
    Action.REINSTATE: 1,
    Action.SCALE_IN: -1,
    Action.SWITCH_ROLE: 1,
}
"""Actions that change the counts that are to serve. A repair restores them; a finished scale-in was
counted when it withdrew."""


class QuarantinedError(RuntimeError):
    """The core gave a service up; a simulation of it is worth nothing."""


class CoreDriver:
    """The joint policy, as the coordinator runs it."""

    name = "joint"

    def __init__(
        self, yard: Yard, telemetry: Mapping[str, Telemetry], clock: float = START
    ) -> None:
        self._yard, self._telemetry = yard, telemetry
        self._clock = clock
        self._state = State(_with_prices(yard.fleet))
        self._state.begin(clock)
        self._step = ZonedStep()
        self._reporters = agents.Reporters(yard, telemetry, self._clock)
        self._ids = count(1)
        self._orders: deque[tuple[float, Command]] = deque()
        self._launches: dict[str, list[Command]] = {}
        self._switches: dict[str, Command] = {}
        """Under way, by instance."""
        self._renew_every = max(1, round(yard.fleet.rules.tick / 2))
        self._decisions: list[Decision] = []
        self._holds: dict[str, Counter[str]] = {}

    @property
    def scrape_every(self) -> int:
        """Seconds between looks at the engines: agents sample every second."""
        return 1

    @property
    def state(self) -> State:
        """The coordinator's state."""
        return self._state

    def decisions(self, service: str) -> tuple[Decision, ...]:
        """Return what was done for a service; holds are not in it."""
        return tuple(d for d in self._decisions if d.service == service)

    def holds(self, service: str) -> Mapping[str, int]:
        """Return how often nothing was done, by what bound it."""
        return self._holds.get(service, Counter())

    def start(self) -> None:
        """Apply the services, and let every agent say hello with what runs there.

        A service that finds a fleet running wants what it finds (``policy.remember.wanted_now``): no
        operator's wish is needed, and none of its cooldowns.
        """
        specs = [tenant.spec for tenant in self._yard.tenants.values()]
        inbox: list[Event] = [
            ApplyService(f"apply-{name}", name, tenant.spec, "")
            for name, tenant in self._yard.tenants.items()
        ]
        running: dict[str, list[RankFact]] = {name: [] for name in self._yard.hosts}
        for twin in self._yard.twins.values():
            for agent, fact in agents.facts(twin, 0.0):
                running[agent].append(fact)
        for name, host in self._yard.hosts.items():
            switches = self._yard.fleet.role_switch is not None
            inbox.append(agents.learned(host, specs, switches=switches))
            inbox.append(AgentConnected(name, agents.INCARNATION, name, tuple(running[name])))
            inbox.extend(agents.cordons(host))
        self._turn(inbox, 0.0)

    def second(self, second: int) -> None:
        """Take the turn of one second: what happened, what is reported, and a tick where one is due."""
        now = float(second)
        inbox: list[Event] = []
        for twin in self._yard.take_changed():
            inbox.extend(self._tell(twin, now))
        inbox.extend(self._obey_due(now))
        inbox.extend(self._reporters.second(second, now))
        if due(self._state, self._clock + now):
            inbox.append(Tick())
        if inbox:
            self._turn(inbox, now)
        if second % self._renew_every == 0 and self._yard.any_out():
            self._renew(now)

    def _turn(self, inbox: list[Event], now: float) -> None:
        self._take(inbox, now)
        while self._state.placing:  # The coordinator takes the next turn at once, too.
            self._take([], now)

    def _take(self, inbox: list[Event], now: float) -> None:
        changes = self._step(self._state, inbox, self._clock + now, self._mint)
        self._state.apply(changes)
        self._check(changes)
        for decision in changes.decisions:
            self._note(decision)
        for command in changes.commands.values():
            if command is not None and command.state is CommandState.OPEN:
                self._dispatch(command, now)

    def _mint(self, kind: str) -> str:
        return f"{kind}-{next(self._ids):06d}"

    def _check(self, changes: Changes) -> None:
        for service in changes.services.values():
            if service is not None and service.quarantine:
                raise QuarantinedError(f"{service.name}: {service.quarantine}")

    def _renew(self, now: float) -> None:
        for renewal in renewals(self._state, self._clock + now):
            for instance_id, lease in renewal.leases.items():
                twin = self._yard.twins.get(instance_id)
                if twin is not None:
                    self._yard.renew(twin, now + lease)

    # ---- commands ------------------------------------------------------------------------------

    def _dispatch(self, command: Command, now: float) -> None:
        if command.verb is not Verb.LAUNCH:
            self._orders.append((now + self._yard.fleet.command_delay, command))
            return
        self._launches.setdefault(command.instance_id, []).append(command)
        if command.instance_id not in self._yard.twins:
            instance = self._state.instances[command.instance_id]
            posts = tuple(Post(rank.agent_id, rank.gpu_indices) for rank in instance.ranks)
            held = command.reason is WithdrawReason.RATIO_HOLD
            self._yard.launch(
                Order(
                    instance.instance_id,
                    instance.service,
                    instance.role,
                    instance.gpu_type,
                    posts,
                    instance.group,
                    command.lease if held else None,
                    instance.template,
                ),
                now,
            )

    def _tell(self, twin: Twin, now: float) -> Iterable[Event]:
        """Yield what agents say of a change; a launch that was carried out is answered with it."""
        if twin.state is S.PENDING:
            return
        yield from agents.changed(twin, now)
        for command in self._launches.pop(twin.instance_id, ()):
            yield agents.answer(command, Outcome.DONE)
        if twin.becomes is None and (order := self._switches.pop(twin.instance_id, None)):
            done = twin.role is order.role
            yield agents.answer(order, Outcome.DONE if done else Outcome.FAILED)

    def _obey_due(self, now: float) -> Iterable[Event]:
        while self._orders and self._orders[0][0] <= now:
            yield self._obey(self._orders.popleft()[1], now)
        for twin in self._yard.take_changed():
            yield from self._tell(twin, now)

    def _obey(self, command: Command, now: float) -> CommandAnswered:
        twin = self._yard.twins.get(command.instance_id)
        if twin is None or twin.generation != command.expected_generation:
            return agents.answer(command, Outcome.REFUSED, "stale generation")
        drain = self._yard.tenants[twin.service].spec.drain
        match command.verb:
            case Verb.WITHDRAW if twin.state in (S.IN_SERVICE, S.WARMING):
                reason = command.reason or WithdrawReason.SOFT_SCALE_IN
                self._yard.withdraw(twin, now, reason, command.lease or drain.lease)
            case Verb.REINSTATE if twin.state in RUNNING and not twin.terminating:
                self._yard.reinstate(twin, now)
            case Verb.SWITCH_ROLE if twin.state is S.IN_SERVICE and command.role is not None:
                self._yard.switch(twin, now, command.role)
                self._switches[twin.instance_id] = command
                return agents.answer(command, Outcome.ACCEPTED)
            case Verb.DRAIN if twin.state in RUNNING and not twin.terminating:
                self._yard.drain(twin, now, drain.lease)
                return agents.answer(command, Outcome.ACCEPTED)
            case Verb.TERMINATE:
                self._yard.terminate(twin, now)
                return agents.answer(command, Outcome.ACCEPTED)
            case _:
                return agents.answer(command, Outcome.REFUSED, f"{command.verb} of {twin.state}")
        return agents.answer(command, Outcome.DONE)

    # ---- what is kept --------------------------------------------------------------------------

    def _note(self, decision: CoreDecision) -> None:
        if decision.action is Action.HOLD:
            holds = self._holds.setdefault(decision.service, Counter())
            holds[decision.bound_by] += 1
            return
        sign = _DIRECTION.get(decision.action, 0)
        self._decisions.append(
            Decision(
                at=decision.at - self._clock,
                service=decision.service,
                action=decision.action.value,
                reason=decision.reason,
                bound_by=decision.bound_by,
                delta={role: sign * n for role, n in decision.delta.items() if sign and n},
                inputs=decision.inputs,
                instance_ids=decision.instance_ids,
            )
        )


def _with_prices(fleet: FleetSpec) -> Rules:
    """Return the fleet's rules with the prices that its pools name, where the rules name none."""
    pools = {p.gpu_type: p.price_per_gpu_hour for p in fleet.pools if p.price_per_gpu_hour}
    return fleet.rules.model_copy(update={"prices": {**pools, **fleet.rules.prices}})
