"""What leaves after a commit: launches of several ranks in order, and what is logged of decisions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import grpc
from structlog.testing import capture_logs

from heteroscale.v1 import agent_pb2
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.events import AskHello, Changes
from heteroscale_coordinator.core.model import Action, Command, Instance, Rank, Service, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.dispatch import Dispatcher
from heteroscale_coordinator.edge.session import Peer
from tests.coordinator.values import decision

SPEC = ServiceSpec.model_validate({"roles": {"aggregated": {"template": "whole", "ranks": 2}}})


class Stream:
    """A session that keeps what is sent."""

    def __init__(self, agent_id: str, host: str) -> None:
        self.peer = Peer(agent_id, 1, "t", agent_id, "", host)
        self.sent: list[agent_pb2.ConnectResponse] = []
        self.ended = ""

    def end(self, code: grpc.StatusCode, text: str) -> None:
        self.ended = f"{code.name}: {text}"

    def send(self, message: agent_pb2.ConnectResponse) -> None:
        self.sent.append(message)


def launches(stream: Stream) -> list[tuple[int, str]]:
    found = (message.command.launch for message in stream.sent)
    return [(launch.rank, launch.leader_host) for launch in found]


def ordered() -> tuple[State, Changes]:
    state = State()
    ranks = (Rank("a0", (0,)), Rank("a1", (0,)))
    pending = InstanceState.PENDING
    instance = Instance("i", "chat", Role.AGGREGATED, ranks, pending, 0, 1.0, 1.0, "whole")
    changes = Changes(services={"chat": Service("chat", SPEC)}, instances={"i": instance})
    for number in range(2):
        name = f"cmd-{number}"
        changes.commands[name] = Command(
            *(name, Verb.LAUNCH, f"a{number}", "i", "chat", "dec", 0, 1.0, 100.0), rank=number
        )
    state.apply(changes)
    return state, changes


def test_other_ranks_are_told_where_the_first_one_is() -> None:
    state, changes = ordered()
    streams = {"a0": Stream("a0", "host-0"), "a1": Stream("a1", "host-1")}
    sessions = cast(Any, SimpleNamespace(get=streams.get))
    Dispatcher(sessions, cast(Any, None), lambda: 2.0).dispatch(changes, state, 1)
    assert launches(streams["a0"]) == [(0, "")]
    assert launches(streams["a1"]) == [(1, "host-0")]


def test_another_rank_waits_for_the_first_ones_agent() -> None:
    state, changes = ordered()
    streams = {"a1": Stream("a1", "host-1")}
    sessions = cast(Any, SimpleNamespace(get=streams.get))
    dispatcher = Dispatcher(sessions, cast(Any, None), lambda: 2.0)
    dispatcher.dispatch(changes, state, 1)
    assert launches(streams["a1"]) == []
    streams["a0"] = Stream("a0", "host-0")
    dispatcher.resend(cast(Any, streams["a0"]), state, 1)
    assert launches(streams["a0"]) == [(0, "")]
    assert launches(streams["a1"]) == [(1, "host-0")]


def test_advice_is_logged_when_it_changes_not_with_every_tick() -> None:
    dispatcher = Dispatcher(cast(Any, SimpleNamespace(get=lambda _: None)), cast(Any, None), float)
    out = replace(decision("d", Action.SCALE_OUT), advisory=True)
    told = [
        *([out] * 3),
        replace(out, delta={Role.DECODE: 5}),
        decision("hold"),
        out,
        *([replace(out, advisory=False)] * 2),
    ]
    with capture_logs() as logged:
        for one in told:
            dispatcher.dispatch(Changes(decisions=[one]), State(), 1)
    assert [one["advisory"] for one in logged] == [True, True, True, False, False]


def test_a_process_that_is_asked_for_a_hello_loses_its_stream_and_no_other_does() -> None:
    streams = {"a0": Stream("a0", "host-0"), "a1": Stream("a1", "host-1")}
    sessions = cast(Any, SimpleNamespace(get=streams.get))
    dispatcher = Dispatcher(sessions, cast(Any, None), float)
    before = [AskHello("a1", 0), AskHello("gone", 1)]
    dispatcher.dispatch(Changes(effects=[AskHello("a0", 1), *before]), State(), 1)
    assert streams["a0"].ended.startswith("UNAVAILABLE: agent 'a0' was forgotten")
    assert not streams["a1"].ended, "that was asked of a process before it"


class Stops:
    """Clusters that own no agent, and note what they are told to stop by force."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, float]] = []

    def owns(self, agent_id: str) -> bool:
        return False

    def end(self, instance_id: str, grace: float) -> bool:
        self.ended.append((instance_id, grace))
        return True


def ended_by_its_cluster(verb: Verb, agent_id: str, *streams: str) -> list[tuple[str, float]]:
    """Return what a cluster is told to stop by an order to an agent within one of its jobs."""
    state, _ = ordered()
    command = Command("cmd-9", verb, agent_id, "i", "chat", "dec", 0, 1.0, 100.0)
    there = {name: Stream(name, name) for name in streams}
    clusters, sessions = Stops(), cast(Any, SimpleNamespace(get=there.get))
    dispatcher = Dispatcher(sessions, cast(Any, None), lambda: 2.0, cast(Any, clusters))
    dispatcher.dispatch(Changes(commands={"cmd-9": command}), state, 1)
    return clusters.ended


def test_who_cannot_be_told_to_end_is_stopped_by_its_cluster() -> None:
    grace = SPEC.drain.grace
    assert ended_by_its_cluster(Verb.TERMINATE, "a0") == [("i", grace)]


def test_a_cluster_stops_nobody_whose_agent_is_there_or_who_is_to_be_emptied_first() -> None:
    assert ended_by_its_cluster(Verb.TERMINATE, "a0", "a0") == []
    assert ended_by_its_cluster(Verb.DRAIN, "a0") == []


def test_an_agent_that_left_an_instance_to_another_has_it_stopped_by_nobody() -> None:
    assert ended_by_its_cluster(Verb.TERMINATE, "who-left") == []
