"""ListInstances in pages: all of them once, in order, whatever comes and goes; garbage is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Instance
from heteroscale_coordinator.edge import pages
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import instance

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub

D, P = Role.DECODE, Role.PREFILL
S = grpc.StatusCode


def many(count: int, service: str = "chat") -> dict[str, Instance]:
    """Return instances by id, half of each role, each older by a second than the one before."""
    found = [
        replace(instance(f"{service}-{n}", (D, P)[n % 2]), service=service, created_at=1000.0 - n)
        for n in range(count)
    ]
    return {one.instance_id: one for one in found}


async def whole(stub: OperatorServiceAsyncStub, size: int, service: str = "") -> list[list[str]]:
    """Return the ids of each page."""
    request, found = pb.ListInstancesRequest(service=service, page_size=size), []
    while True:
        answer = await stub.ListInstances(request)
        found.append([one.instance_id for one in answer.instances])
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            return found


async def test_pages_are_the_list_of_before_cut(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes(instances={**many(5), **many(4, "other")}))
    plain = await stub.ListInstances(pb.ListInstancesRequest())
    every = [one.instance_id for one in plain.instances]
    assert (len(every), plain.next_page_token) == (9, "")
    for size in (1, 2, 4, 5, 8, 9, 50):
        cut = await whole(stub, size)
        assert [name for page in cut for name in page] == every
        assert all(len(page) == size for page in cut[:-1])
        assert cut[-1]
    mine = await whole(stub, 2, "other")
    assert mine == [["other-2", "other-0"], ["other-3", "other-1"]]


async def test_what_goes_between_two_pages_takes_none_along(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes(instances={**many(4)}))
    first = await stub.ListInstances(pb.ListInstancesRequest(page_size=2))
    last = first.instances[-1].instance_id
    loop.commit(Changes(instances={last: None}))
    token = first.next_page_token
    rest = await stub.ListInstances(pb.ListInstancesRequest(page_size=2, page_token=token))
    assert [one.instance_id for one in rest.instances] == ["chat-3", "chat-1"]


async def test_a_page_has_a_thousand_at_most_and_all_come_only_where_no_size_is_said(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes(instances={**many(pages.MOST + 1)}))
    request = pb.ListInstancesRequest(page_size=2**32 - 1)
    first = await stub.ListInstances(request)
    assert len(first.instances) == pages.MOST
    assert first.next_page_token
    assert len((await stub.ListInstances(pb.ListInstancesRequest())).instances) == pages.MOST + 1


@pytest.mark.parametrize(
    "token",
    [
        "7",
        "[]",
        "{}",
        "null",
        "chat-1",
        '["chat","decode","yesterday","i"]',
        '["chat","decode",NaN,"i"]',
        '["chat","decode",1e999,"i"]',
        f'["chat","decode",{"9" * 400},"i"]',
        '["chat","decode",1.0]',
        '["other","decode",1.0,"i"]',
        "[" * 2000,
        "x" * 5000,
        "\x00",
    ],
)
async def test_garbage_is_no_token(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, token: str
) -> None:
    loop.commit(Changes(instances={**many(2)}))
    request = pb.ListInstancesRequest(service="chat", page_size=1, page_token=token)
    code, details = await refused(stub.ListInstances(request))
    assert code is S.INVALID_ARGUMENT
    assert "is no next_page_token of this list; begin anew" in details
    assert len(details) < 500


async def test_a_place_that_nothing_stands_at_is_as_good(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes(instances={**many(2)}))
    for token, left in (
        ('["zz","",0,""]', 0),
        ('["a","",0,""]', 2),
        ('["chat","prefill",0,""]', 1),
    ):
        answer = await stub.ListInstances(pb.ListInstancesRequest(page_size=9, page_token=token))
        assert len(answer.instances) == left


@given(st.text(max_size=200))
def test_any_text_is_a_place_or_refused(token: str) -> None:
    try:
        place = pages.place_in(token, "")
    except ValueError:
        return
    assert place is None or place == tuple(json.loads(token))


@given(st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=6))
def test_any_value_is_a_place_or_refused(value: object) -> None:
    try:
        place = pages.place_in(json.dumps(value), "")
    except ValueError:
        return
    assert place is not None
    assert [type(part) for part in place] == [str, str, float, str]
