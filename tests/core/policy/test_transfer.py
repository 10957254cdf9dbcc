"""The KV-transfer guard: near a limit no step may add pairs across domains; unknown blocks nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.documents import DocumentError, read_documents
from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.transfer import TransferMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.transfer import Transfer, remembered
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from tests.coordinator.values import CHAT
from tests.core.policy.build import (
    NOW,
    D,
    P,
    aggregated_spec,
    decoding,
    many,
    prefilling,
    spec_of,
    view_of,
)


def verdict(
    *shares: float,
    moving: float | None = None,
    tokens: float = 1300.0,
    spec: ServiceSpec | None = None,
    since: TransferMemory | None = None,
) -> Verdict:
    decode = many(4, D, decoding(tokens, transferring=moving))
    view = view_of(spec or spec_of(), *many(2, P, prefilling(4500)), *decode)
    memory = replace(view.memory, transfer=since or TransferMemory())
    return decide(replace(view, nic_shares=shares, memory=memory))


def signals(found: Verdict) -> dict[str, float | None]:
    return {one.name: one.value for one in found.signals}


def test_a_port_near_its_limit_keeps_a_step_together() -> None:
    found = verdict(0.2, 0.85)
    assert found.action is Action.SCALE_OUT
    assert found.together is not None
    assert found.together.level == "s1"
    assert "KV transfer is near its limit: the busiest RDMA port carries 85%" in found.together.why
    assert found.memory.transfer.since == NOW
    assert signals(found)["nic_share"] == 0.85


def test_below_every_limit_placement_is_free() -> None:
    found = verdict(0.2, 0.75, moving=0.1)
    assert found.action is Action.SCALE_OUT
    assert found.together is None
    assert found.memory.transfer == TransferMemory()


def test_unknown_blocks_nothing_and_says_so() -> None:
    found = verdict()
    assert found.together is None
    assert found.inputs["transfer"] == "unknown: no RDMA port and no engine tells"
    assert (signals(found)["nic_share"], signals(found)["transfer_time"]) == (None, None)


def test_requests_long_under_way_are_near_the_limit_too() -> None:
    """6.5 requests/s an engine, 3 under way: 0.46 s, of 0.3 s that a TTFT of 1 s leaves."""
    found = verdict(moving=3.0)
    line = found.sums["transfer_time"]
    assert line.value == pytest.approx(3.0 / 6.5, rel=0.05)
    assert sums.same(line)
    assert found.together is not None
    assert "KV is 46" in found.together.why


def test_without_a_promise_on_ttft_no_time_is_too_long() -> None:
    found = verdict(moving=3.0, spec=spec_of(slo={}))
    assert found.together is None
    assert found.sums["transfer_time"].value > 0.3


def test_engines_that_do_nothing_have_no_time_in_transfer() -> None:
    found = verdict(moving=0.0, tokens=0.0)
    assert "transfer_time" not in found.sums


def test_the_demand_stays_until_it_has_been_calm_for_a_while() -> None:
    before = TransferMemory(since=NOW - 100, calm_since=NOW - 30)
    found = verdict(0.1, since=before)
    assert found.memory.transfer == before
    assert found.together is not None
    assert "it was a short while ago" in found.together.why
    calm = verdict(0.1, since=replace(before, calm_since=NOW - 60))
    assert calm.together is None
    assert calm.memory.transfer == TransferMemory()


def test_a_limit_passed_again_begins_no_new_time() -> None:
    over = Transfer(0.9, None, ("over",), "over")
    memory = remembered(TransferMemory(10.0, 50.0), over, 60.0, 60.0)
    assert memory == TransferMemory(10.0)
    assert remembered(memory, None, 70.0, 60.0) == TransferMemory(10.0, 70.0)


@pytest.mark.parametrize(
    ("affinity", "within", "level"),
    [("s1", None, "s1"), ("s2", None, "s2"), ("cluster", None, "s2"), ("cluster", "s1", "s1")],
)
def test_the_level_is_the_wished_one_unless_it_is_named(
    affinity: str, within: str | None, level: str
) -> None:
    spec = spec_of(transfer={"within": within})
    placement = spec.placement.model_copy(update={"affinity": affinity})
    found = verdict(0.9, spec=spec.model_copy(update={"placement": placement}))
    assert found.together is not None
    assert found.together.level == level


def test_what_the_minimum_lacks_is_launched_wherever_there_is_room() -> None:
    spec = spec_of(prefill=(2, 8), decode=(4, 16))

    def repair(present: int, wanted: int) -> Verdict:
        members = (*many(2, P, prefilling(100)), *many(present, D, decoding(500)))
        memory = PolicyMemory(wanted={P: 2, D: wanted})
        return decide(replace(view_of(spec, *members, memory=memory), nic_shares=(0.95,)))

    least, more = repair(3, 4), repair(4, 5)
    assert (least.action, more.action) == (Action.REPAIR, Action.REPAIR)
    assert least.together is None
    assert more.together is not None


def test_nothing_else_is_bound() -> None:
    assert verdict(0.95, tokens=1000.0).together is None
    off = verdict(0.95, spec=spec_of(transfer={"enabled": False}))
    assert (off.together, "transfer" in off.inputs) == (None, False)
    alone = decide(replace(view_of(aggregated_spec()), nic_shares=(0.95,)))
    assert "nic_share" not in signals(alone)


@pytest.mark.parametrize(
    ("text", "field"),
    [("nicShare: 80", "nicShare"), ("settle: 0s", "settle"), ("within: s3", "within")],
)
def test_a_wrong_setting_is_named(text: str, field: str) -> None:
    document = CHAT.replace("policy: {", f"policy: {{transfer: {{{text}}}, ")
    with pytest.raises(DocumentError, match=f"transfer.{field}"):
        read_documents(document, "chat.yaml")[0].parse(ServiceDocument)


def test_equal_views_give_equal_demands() -> None:
    made: list[Any] = []
    view = view_of(spec_of(), *many(2, P, prefilling(4500)), *many(4, D, decoding(1300)))
    made = [decide(replace(view, nic_shares=(0.9,))) for _ in range(2)]
    assert made[0] == made[1]
