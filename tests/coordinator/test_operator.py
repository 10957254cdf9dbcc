"""The operators' face, over real gRPC on loopback, before a loop driven by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import yaml

from heteroscale.convert import to_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core import events
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.edge import guard
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import CHAT, instance, service

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


OTHER = CHAT.replace("name: chat", "name: other")
S = grpc.StatusCode


# ---- apply -----------------------------------------------------------------------------------


def text(*documents: str, check: bool = False) -> pb.ApplyServicesRequest:
    joined = "---\n".join(documents)
    return pb.ApplyServicesRequest(document=joined, file_name="x.yaml", validate_only=check)


def said(answer: pb.ApplyServicesResponse) -> dict[str, str]:
    return {result.name: result.change for result in answer.results}


async def test_apply_creates_configures_and_leaves_what_is_equal(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    assert said(await stub.ApplyServices(text(CHAT, OTHER))) == {
        "chat": "created",
        "other": "created",
    }
    changed = OTHER.replace("max: 16", "max: 20")
    assert said(await stub.ApplyServices(text(CHAT, changed))) == {
        "chat": "unchanged",
        "other": "configured",
    }
    assert len(loop.wishes) == 3
    assert loop.state.services["other"].spec.roles[Role.DECODE].max == 20


async def test_the_document_kept_is_canonical_and_means_the_same(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    await stub.ApplyServices(
        text("# a comment\n" + CHAT.replace("cooldownOut: 3m", "windowIn: 60s"))
    )
    kept = (await stub.GetService(pb.GetServiceRequest(name="chat"))).document
    assert "comment" not in kept
    assert yaml.safe_load(kept)["spec"]["policy"] == {"observation": "2m"}
    assert said(await stub.ApplyServices(text(kept))) == {"chat": "unchanged"}


async def test_violations_of_all_documents_come_line_by_line_and_nothing_is_taken(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    wrong = OTHER.replace("max: 16", "max: 1").replace("tbt:", "tbtt:")
    code, details = await refused(stub.ApplyServices(text(CHAT, wrong)))
    assert code is S.INVALID_ARGUMENT
    assert details.splitlines() == [
        "x.yaml:21: spec.roles.decode: min 2 is above max 1",
        "x.yaml:23: spec.slo.tbtt: unknown field; did you mean `tbt`?",
    ]
    assert not loop.state.services


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "holds no document"),
        ("a: [", "not YAML"),
        (CHAT + "---\n" + CHAT, "'chat' is in this text twice"),
        (CHAT.replace("kind: Service", "kind: Fleet"), "x.yaml:2: kind"),
        ("x" * (1024 * 1024 + 1), "longer than"),
    ],
)
async def test_what_is_no_service_is_refused(
    stub: OperatorServiceAsyncStub, document: str, complaint: str
) -> None:
    code, details = await refused(stub.ApplyServices(text(document)))
    assert code is S.INVALID_ARGUMENT
    assert complaint in details


async def test_a_thousand_violations_still_fit_into_a_status(
    stub: OperatorServiceAsyncStub,
) -> None:
    keys = "\n".join(f"  unbekannt_ä_{n}: 1" for n in range(1000))
    code, details = await refused(stub.ApplyServices(text(CHAT + keys)))
    assert code is S.INVALID_ARGUMENT
    assert details.splitlines()[-1].startswith("… and ")


async def test_validate_only_changes_nothing(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    assert said(await stub.ApplyServices(text(CHAT, check=True))) == {"chat": "created"}
    assert not loop.wishes


async def test_a_service_being_deleted_refuses_the_whole_text(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes({"other": replace(service("other"), deleting=True)}))
    code, details = await refused(stub.ApplyServices(text(CHAT, OTHER)))
    assert code is S.FAILED_PRECONDITION
    assert "other is being deleted" in details
    assert set(loop.state.services) == {"other"}


async def test_a_store_that_cannot_commit_is_said_and_nothing_was_taken(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.trouble[""] = "the store cannot commit: disk full"
    code, details = await refused(stub.ApplyServices(text(CHAT)))
    assert code is S.UNAVAILABLE
    assert details == "chat: not taken: the store cannot commit: disk full"


async def test_if_one_of_two_is_not_taken_each_is_named(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.trouble["other"] = "disk full"
    code, details = await refused(stub.ApplyServices(text(CHAT, OTHER)))
    assert code is S.ABORTED
    assert details.splitlines() == ["other: not taken: disk full", "chat: taken"]


# ---- wishes ----------------------------------------------------------------------------------


async def test_pause_resume_and_scale_answer_with_the_service(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    request = pb.PauseServiceRequest(name="chat", reason="load\x07 test\n" + "x" * 9999)
    assert (await stub.PauseService(request)).paused
    assert loop.state.services["chat"].paused.startswith("load  test")
    assert len(loop.state.services["chat"].paused) <= guard.MAX_WORDS
    assert not (await stub.ResumeService(pb.ResumeServiceRequest(name="chat"))).paused
    scaled = await stub.ScaleService(pb.ScaleServiceRequest(name="chat", prefill=3, decode=6))
    assert [role.wanted for role in scaled.roles] == [3, 6]
    code, details = await refused(stub.ScaleService(pb.ScaleServiceRequest(name="chat", decode=99)))
    assert code is S.FAILED_PRECONDITION
    assert "bounds 2 to 16" in details
    code, _ = await refused(stub.ScaleService(pb.ScaleServiceRequest(name="chat")))
    assert code is S.INVALID_ARGUMENT


async def test_drain_and_reinstate_answer_with_the_instance(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    soft = instance("i-2", state=InstanceState.WITHDRAWN, reason=WithdrawReason.SOFT_SCALE_IN)
    loop.commit(Changes(instances={"i-2": soft}))
    drained = await stub.DrainInstance(pb.DrainInstanceRequest(instance_id="i-1", reason="disk"))
    assert drained.instance_id == "i-1"
    back = await stub.ReinstateInstance(pb.ReinstateInstanceRequest(instance_id="i-2"))
    assert back.withdraw_reason == to_wire(WithdrawReason.SOFT_SCALE_IN)
    assert [type(wish) for wish in loop.wishes] == [
        events.DrainInstance,
        events.ReinstateInstance,
    ]
    code, _ = await refused(stub.DrainInstance(pb.DrainInstanceRequest(instance_id="i-1")))
    assert code is S.FAILED_PRECONDITION


async def test_delete_forgets(stub: OperatorServiceAsyncStub, loop: TwinLoop) -> None:
    loop.populate()
    await stub.DeleteService(pb.DeleteServiceRequest(name="chat"))
    assert not loop.state.services


async def test_an_error_of_our_own_is_internal_and_named(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()

    def broken(_: events.Wish) -> None:
        raise ZeroDivisionError("of our own")

    loop.before = broken
    code, details = await refused(stub.ResumeService(pb.ResumeServiceRequest(name="chat")))
    assert code is S.INTERNAL
    assert details == "ZeroDivisionError: of our own"


async def test_a_loop_that_never_answers_meets_the_deadline(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.populate()
    monkeypatch.setattr(guard, "DEADLINE_S", 0.05)

    async def never(_: events.Wish) -> events.Answer:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(loop, "submit", never)
    code, _ = await refused(stub.ResumeService(pb.ResumeServiceRequest(name="chat")))
    assert code is S.DEADLINE_EXCEEDED


async def test_a_cordon_is_kept_and_shown_on_the_node_and_with_the_service(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    agent = next(iter(loop.state.agents))
    here = [i for i in loop.state.of_agent(agent) if i.state is InstanceState.IN_SERVICE]
    gpu = here[0].ranks[0].gpu_indices[0]
    node = await stub.CordonNode(
        pb.CordonNodeRequest(agent_id=agent, gpus=[gpu], reason="row\x1b remapping")
    )
    assert (node.cordoned, list(node.cordoned_gpus)) == (False, [gpu])
    assert node.cordon.startswith(f"GPU {gpu} cordoned: row")
    assert "\x1b" not in node.cordon
    service = await stub.GetService(pb.GetServiceRequest(name="chat"))
    assert sum(role.cordoned for role in service.roles) >= 1
    told = await stub.ExplainService(pb.ExplainServiceRequest(name="chat"))
    assert any("on what is cordoned" in line for line in told.lines)
    listed = await stub.ListNodes(pb.ListNodesRequest(agent_id=agent, with_devices=True))
    assert listed.nodes[0].cordon == node.cordon
    assert dict(listed.nodes[0].engine_versions) == {"chat-decode": "0.33"}
    assert not (await stub.UncordonNode(pb.UncordonNodeRequest(agent_id=agent))).cordon
    code, why = await refused(stub.CordonNode(pb.CordonNodeRequest(agent_id="nobody")))
    assert code is S.NOT_FOUND
    assert "no node 'nobody'" in why
