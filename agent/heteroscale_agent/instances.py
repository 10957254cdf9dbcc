"""An instance on this host: what is kept of it, and what else the running agent knows.

A `Record` is the durable part, one frozen value per generation, written to the journal. `Instance`
is the record plus what is only known to the running agent (locks, what routers said, scrapes). All
times called ``…_at`` are on the agent's monotonic clock, which goes on over restarts of the agent
and starts anew only with the kernel, when no engine is left either.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_agent.edges import EDGES, ENDED
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.model import Drain, InstanceStatus, Launch
from heteroscale_agent.quiescence import KV_LEASE, Progress

_S = InstanceState

HISTORY_LINES = 16
_NUMBERS = re.compile(r"\d+(\.\d+)?")


class IllegalChangeError(RuntimeError):
    """A change that the table does not have; the text carries the instance's history."""


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """How the engine is asked for another role; see `heteroscale_agent.config.RoleSwitch`."""

    path: str
    info_path: str
    more: Mapping[Role, Mapping[str, Any]]
    timeout: float
    settle: float
    quiet_scrapes: int
    give_up_after: float


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of role under way."""

    role: Role
    """The role it is to have."""
    command_id: str
    """Who wants an answer."""
    until_at: float
    """When it is given up."""
    asked: bool = False
    """The engine was asked, or is about to be: its own word decides which role it has."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the agent must know of an engine after its template is gone from the configuration."""

    engine: str = "vllm"
    metrics_path: str = "/metrics"
    model_name: str = ""
    readiness_path: str = "/health"
    readiness_period: float = 1.0
    readiness_timeout: float = 2.0
    waits_for_requests: bool = False
    kv_lease: float = KV_LEASE
    role_switch: SwitchFacts | None = None
    """None: it cannot."""


@dataclass(frozen=True, slots=True)
class Record:
    """The durable part of an instance. ``generation`` grows with each change of state."""

    instance_id: str
    launch: Launch
    state: InstanceState
    since_at: float
    launched_at: float
    generation: int = 1
    origin: str = ""
    facts: EngineFacts = EngineFacts()
    ports: tuple[int, ...] = ()
    endpoint: str = ""
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    startup_time: float | None = None
    """Seconds from start to first readiness; None: not ready yet, or nobody knows any more."""
    recovered: bool = False
    """Its journal was lost. It may have been ready, and routers may know it."""
    withdraw_reason: WithdrawReason | None = None
    lease: float | None = None
    """Length of the lease of a soft scale-in or of a drain, seconds."""
    hold_until_at: float | None = None
    """Deadline of a ratio hold."""
    drain: Drain | None = None
    switch: Switch | None = None
    """While it is WITHDRAWN to change its role."""
    terminating: bool = False
    """TERM is sent, or about to be: no way back."""
    terminate_at: float | None = None
    grace: float = 0.0
    doomed: str = ""
    """Why it counts as FAILED, not TERMINATED, when it is gone."""
    owed: tuple[str, ...] = ()
    """Long commands that want an answer when the process has ended."""
    cause: str = ""
    message: str = ""
    adopted: bool = False
    exit_code: int | None = None
    gate_out: bool = False
    """After its end every router was seen to have it no more: they are never asked about it again,
    for the next engine may have its port."""
    history: tuple[str, ...] = ()
    gpus_unknown: bool = False
    """It was discovered, and which GPUs it holds is not known."""
    watched_pid: int = 0
    """Its process, where it is not ours to look after."""

    @property
    def discovered(self) -> bool:
        """Whether it was found on the host: `pod/…`, `job/…`, `process/…`."""
        return "/" in self.origin

    @property
    def ended(self) -> bool:
        """Whether its process is gone for good."""
        return self.state in ENDED

    @property
    def has_gate(self) -> bool:
        """Whether routers can know it: rank 0, ours, and once ready."""
        return self.launch.rank == 0 and not self.origin and self.was_ready

    @property
    def was_ready(self) -> bool:
        """Whether it was ready once, or may have been."""
        return self.startup_time is not None or self.recovered

    @property
    def wanted_in(self) -> bool:
        """Whether traffic should reach it."""
        if self.terminating:
            return False
        if self.state is _S.WARMING:
            return self.launch.ratio_hold is None
        return self.state is _S.IN_SERVICE

    @property
    def member(self) -> Member:
        """Return it as gates know it."""
        return Member(
            instance_id=self.instance_id,
            service=self.launch.service,
            role=self.launch.role,
            endpoint=self.endpoint,
            bootstrap_port=self.ports[1] if len(self.ports) > 1 else None,
            gate=self.launch.gate,
            origin=self.origin,
        )


def moved(record: Record, state: InstanceState, now: float, why: str, **changes: Any) -> Record:
    """Return ``record`` in ``state``, one generation on, with ``why`` as message and history.

    Raises:
        IllegalChangeError: the table has no such edge.

    """
    if (record.state, state) not in EDGES:
        story = "; ".join(record.history) or "no history"
        raise IllegalChangeError(
            f"{record.instance_id}: no way from {record.state} to {state} ({why}). {story}"
        )
    line = f"{now:.1f} {record.state} → {state}: {why}"
    # Why it is out, and for how long, belongs to one state; so does the command that led to it.
    blank = {
        "withdraw_reason": None,
        "lease": None,
        "hold_until_at": None,
        "switch": None,
        "cause": "",
    }
    fields = {**blank, **changes}
    return replace(
        record,
        state=state,
        since_at=now,
        generation=record.generation + 1,
        message=why,
        history=(*record.history, line)[-HISTORY_LINES:],
        **fields,
    )


_ADAPTER = TypeAdapter(Record)


def dump_record(record: Record) -> dict[str, Any]:
    """Return the record as plain JSON data."""
    result: dict[str, Any] = _ADAPTER.dump_python(record, mode="json")
    return result


def load_record(data: object) -> Record:
    """Return the record of plain JSON data; raises pydantic's ValidationError for anything else."""
    return _ADAPTER.validate_python(data)


@dataclass(slots=True)
class Instance:
    """A record and what the running agent knows besides; owned by the event loop."""

    record: Record
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes the record: a command, or the life step."""
    view: View | None = None
    """What the routers said last."""
    view_at: float = 0.0
    view_wanted: bool | None = None
    """What was wanted when the view was taken; a view of another wish confirms nothing."""
    kept_out: float = 0.0
    """Seconds that routers answered and none had it in, though it was wanted in."""
    gate_due_at: float = 0.0
    gate_tries: int = 0
    shown_gate: GateState = GateState.CLOSED
    ready_at: float | None = None
    probe_due_at: float = 0.0
    lease_until_at: float | None = None
    progress: Progress = field(default_factory=Progress)
    shown_message: str = ""
    """The message last said aloud, without its numbers."""
    switch_due_at: float = 0.0
    role_tries: int = 0
    role_known: bool = False
    """The engine itself was heard on its role, where the journal could not tell."""
    term_sent_at: float | None = None
    killed: bool = False

    @property
    def instance_id(self) -> str:
        """Its id."""
        return self.record.instance_id

    def confirmed(self, *, wanted_in: bool) -> bool:
        """Return whether every router was seen to agree with ``wanted_in``."""
        if not self.record.has_gate:
            return self.record.was_ready or not wanted_in
        if self.view is None or self.view_wanted != wanted_in:
            return False
        return self.view.all_in if wanted_in else self.view.all_out

    @property
    def gate_state(self) -> GateState:
        """Return what is wanted, and whether every router agrees."""
        if self.record.origin:
            return GateState.OPEN if self.record.wanted_in else GateState.CLOSED
        if self.record.wanted_in:
            return GateState.OPEN if self.confirmed(wanted_in=True) else GateState.OPENING
        return GateState.CLOSED if self.confirmed(wanted_in=False) else GateState.CLOSING

    def status(self, now: float) -> InstanceStatus:
        """Return it as events and hellos carry it."""
        record = self.record
        ends_at = record.hold_until_at if record.hold_until_at is not None else self.lease_until_at
        leased = record.hold_until_at is not None or record.lease is not None
        return InstanceStatus(
            instance_id=record.instance_id,
            service=record.launch.service,
            role=record.launch.role,
            state=record.state,
            generation=record.generation,
            rank=record.launch.rank,
            rank_count=record.launch.rank_count,
            withdraw_reason=record.withdraw_reason,
            gate_state=self.gate_state,
            endpoint=record.endpoint,
            group=record.launch.group,
            template=record.launch.template,
            gpu_indices=record.launch.gpu_indices,
            pid=record.pid,
            lease_remaining=max(0.0, ends_at - now) if leased and ends_at is not None else None,
            state_age=max(0.0, now - record.since_at),
            message=self.message,
            terminating=record.terminating,
            adopted=record.adopted,
            exit_code=record.exit_code,
            gate=record.launch.gate,
            startup_time=record.startup_time,
            origin=record.origin,
        )

    @property
    def is_emptied(self) -> bool:
        """Whether it is waited for to be quiet: to be stopped, or to switch its role."""
        switch = self.record.switch
        return self.record.state is _S.DRAINING or (switch is not None and not switch.asked)

    @property
    def message(self) -> str:
        """What there is to say of it: the record, its routers, and what a drain waits for."""
        said: Sequence[str] = (
            self.record.message,
            self.view.message if self.view is not None and self.record.has_gate else "",
            self.progress.message if self.is_emptied else "",
        )
        return "; ".join(part for part in said if part)

    @property
    def message_without_numbers(self) -> str:
        """Return the message as it is compared: a count that goes down is no news."""
        return _NUMBERS.sub("", self.message)
