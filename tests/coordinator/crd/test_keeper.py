"""Objects against a real loop: what they ask for, what came of it, and who owns a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import yaml

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.events import (
    ApplyService,
    Changes,
    DeleteService,
    PauseService,
)
from heteroscale_coordinator.core.model import Action, Decision, Instance, Rank
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals, step
from heteroscale_coordinator.edge.apply import parse_services
from heteroscale_coordinator.edge.cluster_api import Address, ApiError
from heteroscale_coordinator.edge.crd import objects, words
from heteroscale_coordinator.edge.crd.keeper import Keeper
from heteroscale_coordinator.edge.store.memory import MemoryStore
from heteroscale_coordinator.loop import Loop
from tests.coordinator.crd.cluster import Cluster
from tests.coordinator.face import FAST, START, Clock, until
from tests.coordinator.values import CHAT

AT = objects.at("llm", "chat")
SPEC: dict[str, Any] = yaml.safe_load(CHAT)["spec"]


@dataclass
class Scene:
    """A loop with the real step, a cluster in memory, and the keeper between them."""

    loop: Loop
    clock: Clock
    cluster: Cluster
    keeper: Keeper
    last: dict[str, Decision] = field(default_factory=dict)

    def put(self, at: Address = AT, **changes: Any) -> None:
        notes = changes.pop("annotations", {})
        old = self.cluster.objects.get(at, {}).get("metadata", {})
        meta = {"finalizers": old.get("finalizers", []), "annotations": notes}
        created = changes.pop("created", None)
        meta |= {"creationTimestamp": created} if created else {}
        spec = {**SPEC, **changes}
        before = self.cluster.objects.get(at, {})
        made = {"apiVersion": words.API_VERSION, "kind": words.KIND, "metadata": meta, "spec": spec}
        status = {"status": before["status"]} if "status" in before else {}
        self.cluster.put(at, {**made, **status})

    async def look(self, times: int = 2) -> None:
        """Read all objects anew and pass over them; twice, since a claim is one pass of its own."""
        for _ in range(times):
            await self.keeper.reflection._list()
            await self.keeper.once()

    def status(self, at: Address = AT) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[at]["status"]
        return found

    def condition(self, kind: str, at: Address = AT) -> tuple[str, str, str]:
        (one,) = [c for c in self.status(at)["conditions"] if c["type"] == kind]
        return one["status"], one["reason"], one["message"]

    def events(self) -> list[dict[str, Any]]:
        return [thing for at, thing in self.cluster.objects.items() if at.plural == "events"]

    async def apply(self, text: str) -> None:
        (one,) = parse_services(text, "file")
        answer = await self.loop.submit(ApplyService("r", one.name, one.spec, one.document))
        assert answer.error == ""


class Latest:
    def __init__(self, last: dict[str, Decision]) -> None:
        self._last = last

    def latest(self, service: str) -> Decision | None:
        return self._last.get(service)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    store, clock, cluster = MemoryStore(), Clock(), Cluster()
    last: dict[str, Decision] = {}
    loop = Loop(
        store=store,
        snapshot=store.load(),
        state=State(rules=Rules()),
        step=step,
        renewals=renewals,
        clock=clock,
        pace=FAST,
    )
    await loop.start()
    running = asyncio.create_task(loop.run())
    yield Scene(loop, clock, cluster, Keeper(cluster, loop, Latest(last), "test-0"), last)
    loop.stop()
    await running
    loop.close()


async def test_an_object_becomes_a_service_and_is_told_so(scene: Scene) -> None:
    scene.put()
    await scene.look()
    service = scene.loop.state.services["chat"]
    assert service.spec == parse_services(CHAT, "x")[0].spec
    assert scene.cluster.objects[AT]["metadata"]["finalizers"] == [words.FINALIZER]
    assert scene.condition(words.ACCEPTED)[:2] == ("True", "Valid")
    assert scene.condition(words.ACTIVE)[:2] == ("True", "Acting")
    assert scene.condition(words.PLACED)[:2] == ("False", "Missing")
    assert scene.condition(words.PAUSED)[:2] == ("False", "NotPaused")
    status = scene.status()
    assert status["observedGeneration"] == 1
    assert (status["prefill"], status["decode"]) == ("0/1", "0/2")
    assert "ratio" not in status
    assert status["roles"]["decode"]["max"] == 16


async def test_nothing_is_written_where_nothing_changed(scene: Scene) -> None:
    scene.put()
    await scene.look()
    written = len(scene.cluster.calls)
    scene.clock.now += 1000
    await scene.look()
    assert [verb for verb, _ in scene.cluster.calls[written:]] == ["list", "list"]


async def test_a_wrong_field_is_named_and_the_service_stays_as_it_was(scene: Scene) -> None:
    scene.put()
    await scene.look()
    before = scene.loop.state.services["chat"].spec
    scene.put(
        ratio="often", roles={**SPEC["roles"], "decode": {"template": "d", "min": 3, "max": 2}}
    )
    await scene.look(1)
    status, reason, message = scene.condition(words.ACCEPTED)
    assert (status, reason) == ("False", "Invalid")
    assert "spec.ratio: 'often' is no ratio" in message
    assert "spec.roles.decode: min 3 is above max 2" in message
    assert message.endswith("what was accepted before stays in force")
    assert ":1:" not in message
    assert scene.status()["reason"].startswith("spec.")
    assert scene.loop.state.services["chat"].spec == before
    (said,) = scene.events()
    assert (said["type"], said["reason"]) == ("Warning", "Invalid")
    scene.put()
    await scene.look(1)
    assert scene.condition(words.ACCEPTED)[1] == "Valid"


async def test_a_refusal_of_the_core_is_told_and_asked_again_later(scene: Scene) -> None:
    scene.put()
    await scene.look()
    one = Instance(
        instance_id="i1",
        service="chat",
        role=Role.PREFILL,
        state=InstanceState.IN_SERVICE,
        ranks=(Rank("a1", (0,)),),
        generation=1,
        created_at=START,
        changed_at=START,
    )
    scene.loop.state.apply(Changes(instances={"i1": one}))
    scene.put(roles={"aggregated": {"template": "a"}}, ratio=None)
    scene.cluster.objects[AT]["spec"].pop("ratio")
    await scene.look(1)
    status, reason, message = scene.condition(words.ACCEPTED)
    assert (status, reason) == ("False", "Refused")
    assert "still has prefill instances" in message
    scene.loop.state.apply(Changes(instances={"i1": replace(one, state=InstanceState.TERMINATED)}))
    await scene.look(1)
    assert scene.condition(words.ACCEPTED)[1] == "Refused"
    scene.clock.now += 60
    await scene.look(1)
    assert scene.condition(words.ACCEPTED)[1] == "Valid"
    assert Role.AGGREGATED in scene.loop.state.services["chat"].spec.roles


async def test_an_object_wins_over_what_others_apply_since(scene: Scene) -> None:
    scene.put()
    await scene.look()
    await scene.apply(CHAT.replace("max: 16", "max: 20"))
    await scene.look(1)
    assert scene.loop.state.services["chat"].spec.roles[Role.DECODE].max == 16
    assert [one["reason"] for one in scene.events()] == ["Reverted"]


async def test_what_was_applied_before_wins_until_it_is_taken_over(scene: Scene) -> None:
    await scene.apply(CHAT.replace("max: 16", "max: 20"))
    scene.put()
    await scene.look()
    status, reason, message = scene.condition(words.ACCEPTED)
    assert (status, reason) == ("False", "NameTaken")
    assert "kubectl annotate hsvc chat heteroscale.io/take-over=true" in message
    assert scene.loop.state.services["chat"].spec.roles[Role.DECODE].max == 20
    assert "finalizers" not in str(scene.cluster.objects[AT]["metadata"].get("finalizers") or "")
    scene.put(annotations={words.TAKE_OVER: "true"})
    await scene.look()
    assert scene.condition(words.ACCEPTED)[1] == "Valid"
    assert scene.loop.state.services["chat"].spec.roles[Role.DECODE].max == 16


async def test_what_says_the_same_is_taken_without_a_word(scene: Scene) -> None:
    await scene.apply(CHAT)
    scene.put()
    await scene.look()
    assert scene.condition(words.ACCEPTED)[1] == "Valid"


async def test_of_two_namespaces_the_older_object_wins_and_the_other_is_told_who(
    scene: Scene,
) -> None:
    other = objects.at("team-b", "chat")
    scene.put(created="2026-02-02T00:00:00Z")
    scene.put(other, created="2026-01-01T00:00:00Z", maxGpus=40)
    await scene.look()
    assert scene.loop.state.services["chat"].spec.max_gpus == 40
    status, reason, message = scene.condition(words.ACCEPTED)
    assert (status, reason) == ("False", "NameTaken")
    assert "belongs to ScaledService team-b/chat" in message
    assert "roles" not in scene.status()
    scene.cluster.delete(other)
    await scene.look(1)
    scene.clock.now += 10
    await until(lambda: "chat" not in scene.loop.state.services)
    await scene.look(3)
    assert other not in scene.cluster.objects
    assert scene.condition(words.ACCEPTED)[1] == "Valid"
    assert scene.loop.state.services["chat"].spec.max_gpus is None


async def test_the_owner_stays_the_owner_whoever_is_older(scene: Scene) -> None:
    scene.put(created="2026-02-02T00:00:00Z")
    await scene.look()
    other = objects.at("team-b", "chat")
    scene.put(other, created="2026-01-01T00:00:00Z")
    await scene.look()
    assert scene.condition(words.ACCEPTED)[1] == "Valid"
    assert scene.condition(words.ACCEPTED, other)[1] == "NameTaken"
    assert "which has it already" in scene.condition(words.ACCEPTED, other)[2]


async def test_deleted_it_goes_once_the_service_is_drained_and_gone(scene: Scene) -> None:
    scene.put()
    await scene.look()
    mine = Instance(
        instance_id="i1",
        service="chat",
        role=Role.DECODE,
        state=InstanceState.IN_SERVICE,
        ranks=(Rank("a1", (0,)),),
        generation=1,
        created_at=START,
        changed_at=START,
    )
    scene.loop.state.apply(Changes(instances={"i1": mine}))
    scene.cluster.delete(AT)
    await scene.look(1)
    assert scene.loop.state.services["chat"].deleting
    assert AT in scene.cluster.objects
    assert scene.condition(words.ACCEPTED)[1] == "Deleting"
    assert scene.condition(words.ACTIVE)[1] == "Deleting"
    scene.loop.state.apply(Changes(instances={"i1": replace(mine, state=InstanceState.TERMINATED)}))
    scene.clock.now += 10
    await until(lambda: "chat" not in scene.loop.state.services)
    await scene.look(1)
    assert AT not in scene.cluster.objects


async def test_deleted_with_keep_the_instances_stay(scene: Scene) -> None:
    scene.put()
    await scene.look()
    scene.put(annotations={words.ON_DELETE: "keep"})
    scene.cluster.delete(AT)
    await scene.look(1)
    assert "chat" not in scene.loop.state.services
    assert AT not in scene.cluster.objects


async def test_an_object_that_owned_nothing_goes_at_once_and_others_finalizers_stay(
    scene: Scene,
) -> None:
    scene.put()
    scene.cluster.objects[AT]["metadata"]["finalizers"] = ["example.com/audit"]
    await scene.look()
    assert scene.cluster.objects[AT]["metadata"]["finalizers"][0] == "example.com/audit"
    scene.cluster.delete(AT)
    await scene.loop.submit(DeleteService("r", "chat"))
    await scene.look(1)
    assert scene.cluster.objects[AT]["metadata"]["finalizers"] == ["example.com/audit"]
    await scene.look(1)
    assert AT in scene.cluster.objects


async def test_the_operators_pause_is_shown(scene: Scene) -> None:
    scene.put()
    await scene.look()
    await scene.loop.submit(PauseService("r", "chat", "we look at it"))
    scene.clock.now += 10
    await scene.look(1)
    assert scene.condition(words.PAUSED) == ("True", "ByOperator", "we look at it")
    assert scene.condition(words.ACTIVE)[:2] == ("False", "Paused")


def decision(
    action: Action = Action.SCALE_OUT, reason: str = "R 1.30 > 1.10", **more: Any
) -> Decision:
    delta = {Role.PREFILL: 1, Role.DECODE: 2}
    return Decision("d1", "chat", START, action, reason, "demand", delta, **more)


async def test_the_last_decision_is_told_and_sentences_wait(scene: Scene) -> None:
    scene.put()
    await scene.look()
    scene.last["chat"] = decision()
    scene.clock.now += 10
    await scene.look(1)
    last = scene.status()["lastDecision"]
    assert last["action"] == "scale_out"
    assert last["delta"] == {"prefill": 1, "decode": 2}
    assert scene.status()["reason"] == last["reason"] == "R 1.30 > 1.10"
    scene.last["chat"] = decision(reason="R 1.31 > 1.10")
    scene.clock.now += 10
    await scene.look(1)
    assert scene.status()["reason"] == "R 1.30 > 1.10"
    scene.clock.now += 30
    await scene.look(1)
    assert scene.status()["reason"] == "R 1.31 > 1.10"


async def test_decisions_that_do_something_are_events_of_the_object(scene: Scene) -> None:
    scene.put()
    await scene.look()
    telling = asyncio.create_task(scene.keeper.tell())
    await asyncio.sleep(0)
    for one in (decision(Action.HOLD), decision(), decision(Action.SCALE_IN, advisory=True)):
        scene.loop._feed.publish(Changes(decisions=[one]), START)
    await until(lambda: len(scene.events()) == 2)
    out, into = scene.events()
    assert (out["reason"], out["type"]) == ("ScaleOut", "Normal")
    assert out["message"] == "prefill +1, decode +2: R 1.30 > 1.10"
    assert into["message"].startswith("advisory, nothing is done: ")
    assert out["involvedObject"]["uid"] == scene.cluster.objects[AT]["metadata"]["uid"]
    telling.cancel()


async def test_a_cluster_that_fails_one_object_does_not_keep_the_others_waiting(
    scene: Scene,
) -> None:
    other = objects.at("llm", "code")
    scene.put()
    scene.put(other)

    def broken(verb: str, at: Address) -> None:
        if verb == "patch" and at.name == "chat":
            raise ApiError("conflict")

    scene.cluster.fault = broken
    await scene.look()
    assert set(scene.loop.state.services) == {"code"}
    scene.cluster.fault = lambda _verb, _at: None
    await scene.look()
    assert set(scene.loop.state.services) == {"chat", "code"}


async def test_it_follows_by_itself_through_a_broken_watch_and_a_forgotten_revision(
    scene: Scene,
) -> None:
    async def no_wait(_seconds: float) -> None:
        await asyncio.sleep(0)

    keeper = Keeper(scene.cluster, scene.loop, Latest({}), "test-0", sleep=no_wait)
    running = asyncio.create_task(keeper.run())
    scene.put()
    await scene.cluster.settle()
    await until(lambda: "chat" in scene.loop.state.services)
    await scene.cluster.end_watches()
    scene.put(maxGpus=40)
    await scene.cluster.settle()
    await until(lambda: scene.loop.state.services["chat"].spec.max_gpus == 40)
    scene.put(maxGpus=41)
    scene.cluster.forget_history()
    await scene.cluster.end_watches()
    await until(lambda: scene.loop.state.services["chat"].spec.max_gpus == 41)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
