"""The record of decisions as operators ask it: narrowed, page by page, and explained at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.core.sums import Sum, reckon
from heteroscale_coordinator.edge.operator_wire import MAX_PAGE_WITH_ARITHMETIC
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, decision

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub

S = grpc.StatusCode


def reckoned(key: str, at: float, action: Action = Action.HOLD, demand: float = 7000.0) -> Decision:
    sums = {"R": reckon("Q / S", "", "of decode", Q=demand, S=8000.0 + 1 / 3)}
    return replace(decision(key, action, at, demand=demand), sums=sums)


async def test_filters_and_pages_narrow_what_is_listed(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    for n in range(6):
        action = Action.SCALE_OUT if n % 2 else Action.HOLD
        decisions.record([reckoned(f"d-{n}", NOW + 100 * n, action)])
    request = pb.ListDecisionsRequest(
        service="chat", only_acted=True, start_time=timestamp(NOW + 150), page_size=1
    )
    first = await stub.ListDecisions(request)
    assert [d.decision_id for d in first.decisions] == ["d-5"]
    assert not first.decisions[0].sums
    request.page_token = first.next_page_token
    second = await stub.ListDecisions(request)
    assert [d.decision_id for d in second.decisions] == ["d-3"]
    assert second.next_page_token == ""


async def test_a_list_with_arithmetic_is_shorter(
    stub: OperatorServiceAsyncStub, decisions: DecisionLog
) -> None:
    count = MAX_PAGE_WITH_ARITHMETIC + 5
    decisions.record([reckoned(f"d-{n}", NOW + n, Action.SCALE_OUT) for n in range(count)])
    request = pb.ListDecisionsRequest(page_size=1000, with_arithmetic=True)
    found = await stub.ListDecisions(request)
    assert len(found.decisions) == MAX_PAGE_WITH_ARITHMETIC
    assert found.next_page_token
    (line,) = found.decisions[0].sums
    assert (line.name, line.formula, line.replayed) == ("R", "Q / S", True)
    assert dict(line.terms) == {"Q": 7000.0, "S": 8000.0 + 1 / 3}
    assert line.value == 7000.0 / (8000.0 + 1 / 3)
    assert [s.name for s in found.decisions[0].signals] == [
        "decode_demand",
        "decode_supply",
        "decode_tbt",
    ]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (pb.ListDecisionsRequest(actions=["explode"]), "no action 'explode': give hold, scale_out"),
        (pb.ListDecisionsRequest(only_acted=True, only_advice=True), "give one of them"),
        (pb.ListDecisionsRequest(page_token="gone"), "'gone' is no longer kept"),  # noqa: S106 - a page
        (
            pb.ListDecisionsRequest(start_time=timestamp(NOW), end_time=timestamp(NOW)),
            "start_time must be before end_time",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_what_would_be_right(
    stub: OperatorServiceAsyncStub, request_: pb.ListDecisionsRequest, why: str
) -> None:
    code, details = await refused(stub.ListDecisions(request_))
    assert code is S.INVALID_ARGUMENT
    assert why in details


async def explained(stub: OperatorServiceAsyncStub, at: float) -> pb.ExplainServiceResponse:
    return await stub.ExplainService(pb.ExplainServiceRequest(name="chat", time=timestamp(at)))


async def test_a_decision_of_the_past_is_replayed(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    decisions.record([reckoned("out", NOW - 900, Action.SCALE_OUT, 9000.0)])
    for n in range(3):
        decisions.record([reckoned("hold", NOW - 800 + 5 * n, demand=7000.0 + n)])
    decisions.record([reckoned("last", NOW - 100, Action.SCALE_OUT)])
    answer = await explained(stub, NOW - 500)
    assert answer.decision.decision_id == "hold"
    everything = "\n".join(answer.lines)
    assert answer.lines[0] == "At 2025-06-15 14:58:20 UTC:"
    assert "the same was decided 3 times since 2025-06-15 14:53:20 UTC" in everything
    assert "the figures are the last ones" in everything
    assert "R from 0.874964 to 0.875214" in everything
    assert "Arithmetic, done again: all 1 lines come out the same" in everything
    assert "  same   R = 0.875214 = Q / S (Q 7002, S 8000.33); of decode" in answer.lines
    assert "nothing was decided from then until 2025-06-15 14:58:20 UTC" in everything
    assert "What would change it" not in everything
    exact = await explained(stub, NOW - 900)
    assert exact.decision.decision_id == "out"
    assert "nothing was decided" not in "\n".join(exact.lines)


async def test_a_record_that_was_changed_is_told_aloud(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    forged = {
        "R": Sum("Q / S", 1.5, {"Q": 7000.0, "S": 8000.0}),
        "S": Sum("exec(S)", 1.0, {"S": 1.0}),
        "Q": reckon("served", served=7000),
    }
    decisions.record([replace(decision(), sums=forged)])
    answer = await stub.ExplainService(pb.ExplainServiceRequest(name="chat"))
    everything = "\n".join(answer.lines)
    assert "2 OF 3 LINES DO NOT COME OUT THE SAME (R, S)" in everything
    assert "WRONG  R = 1.5 = Q / S (Q 7000, S 8000); done again it is 0.875" in everything
    assert "done again it is nothing: 'exec(S)' has no place in a formula" in everything
    assert [line.replayed for line in answer.decision.sums] == [False, False, True]


async def test_a_time_outside_of_the_record_says_what_there_is(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    empty, why = await refused(explained(stub, NOW))
    assert empty is S.OUT_OF_RANGE
    assert "it is empty" in why
    decisions.record([reckoned("d", NOW - 60)])
    for at in (NOW - 61, NOW + 3600):
        code, why = await refused(explained(stub, at))
        assert code is S.OUT_OF_RANGE
        assert (
            "the record goes from 2025-06-15 15:05:40 UTC to now (2025-06-15 15:06:40 UTC)" in why
        )


async def test_a_time_read_off_a_list_finds_its_decision_again(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    # Less than half a microsecond after what the wire can say.
    decisions.record([reckoned("d", NOW - 60 + 4.8e-7)])
    (listed,) = (await stub.ListDecisions(pb.ListDecisionsRequest())).decisions
    request = pb.ExplainServiceRequest(name="chat", time=listed.time)
    assert (await stub.ExplainService(request)).decision.decision_id == "d"


async def test_the_past_of_a_deleted_service_is_still_told(
    stub: OperatorServiceAsyncStub, decisions: DecisionLog
) -> None:
    decisions.record([reckoned("d", NOW - 60)])
    answer = await explained(stub, NOW - 30)
    assert answer.service.name == "chat"
    assert answer.decision.decision_id == "d"
    listed = await stub.ListDecisions(pb.ListDecisionsRequest(service="chat", only_acted=True))
    assert not listed.decisions
    unknown = pb.ExplainServiceRequest(name="nobody", time=timestamp(NOW))
    code, _ = await refused(stub.ExplainService(unknown))
    assert code is S.NOT_FOUND
