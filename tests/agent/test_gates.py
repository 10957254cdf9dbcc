"""One contract for every kind of gate, and what is particular to each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from heteroscale_agent.hands.gates.sglang_router import BLIND_PATIENCE, SglangRouterGate
from heteroscale_agent.model import Gate
from tests.agent.body_twins import Clock
from tests.agent.gate_rigs import (
    ENDPOINT,
    Rig,
    file_rig,
    hook_rig,
    member,
    none_rig,
    router_rig,
    twin_rig,
)
from tests.agent.small_router import SmallRouter, drips, floods, hangs, says


@pytest.fixture
async def router() -> AsyncIterator[SmallRouter]:
    small = SmallRouter()
    await small.start()
    yield small
    await small.stop()


@pytest.fixture(params=["none", "twin", "file", "hook", "sglang-router"])
async def rig(
    request: pytest.FixtureRequest, tmp_path: Path, router: SmallRouter
) -> AsyncIterator[Rig]:
    makers: dict[str, Callable[[], Rig]] = {
        "none": none_rig,
        "twin": twin_rig,
        "file": lambda: file_rig(tmp_path),
        "hook": lambda: hook_rig(tmp_path),
        "sglang-router": lambda: router_rig(router),
    }
    made = makers[request.param]()
    yield made
    await made.gate.close()


# ---- the contract ----


async def test_contract_settings_in_order_have_no_complaint(rig: Rig) -> None:
    assert rig.gate.complaint(rig.member) == ""


async def test_contract_in_and_out_and_in_again(rig: Rig) -> None:
    for wanted_in in (True, False, True, True, False, False):
        view = await rig.until(wanted_in=wanted_in)
        assert view.message == ""
        if view.places:
            assert view.some_in is wanted_in


async def test_contract_what_it_never_had_is_out(rig: Rig) -> None:
    view = await rig.until(wanted_in=False)
    assert view.all_out


async def test_contract_what_was_lost_is_put_back(rig: Rig) -> None:
    await rig.until(wanted_in=True)
    if rig.lose is None:
        return
    rig.lose()
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert not view.all_in
    await rig.until(wanted_in=True)


async def test_contract_what_came_back_is_taken_out(rig: Rig) -> None:
    await rig.until(wanted_in=True)
    await rig.until(wanted_in=False)
    if rig.insert is None:
        return
    rig.insert()
    view = await rig.gate.reconcile(rig.member, wanted_in=False)
    assert not view.all_out
    await rig.until(wanted_in=False)


# ---- sglang-router ----


def body_of(router: SmallRouter) -> list[dict[str, Any]]:
    keys = ("url", "worker_type", "bootstrap_port", "model_id")
    return [{k: w[k] for k in keys if k in w} for w in router.workers.values()]


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ("prefill", {"worker_type": "prefill", "bootstrap_port": 9001}),
        ("decode", {"worker_type": "decode"}),
        ("aggregated", {"worker_type": "regular"}),
    ],
)
async def test_workers_are_told_as_their_role_wants(
    router: SmallRouter, role: str, told: dict[str, Any]
) -> None:
    rig = router_rig(router)
    gate = Gate("sglang-router", (router.url,), {"model_id": "tiny"})
    await rig.until(wanted_in=True, member=member(gate, role=role))
    assert body_of(router) == [{"url": ENDPOINT, "model_id": "tiny", **told}]
    await rig.gate.close()


async def test_an_addition_still_queued_is_not_out(router: SmallRouter) -> None:
    rig = router_rig(router)
    router.prompt = False
    await rig.gate.reconcile(rig.member, wanted_in=True)
    view = await rig.gate.reconcile(rig.member, wanted_in=False)
    assert view.places == {router.url: None}
    router.work()
    assert router.listed == [ENDPOINT]
    view = await rig.gate.reconcile(rig.member, wanted_in=False)
    assert view.places == {router.url: True}
    router.work()
    view = await rig.gate.reconcile(rig.member, wanted_in=False)
    assert view.all_out
    assert router.listed == []
    await rig.gate.close()


async def test_a_removal_still_queued_is_not_in(router: SmallRouter) -> None:
    rig = router_rig(router)
    await rig.until(wanted_in=True)
    router.prompt = False
    await rig.gate.reconcile(rig.member, wanted_in=False)
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert view.places == {router.url: None}
    router.work()
    await rig.gate.reconcile(rig.member, wanted_in=True)
    router.work()
    assert (await rig.gate.reconcile(rig.member, wanted_in=True)).all_in
    await rig.gate.close()


async def test_an_addition_without_an_answer_is_pending_for_a_while(router: SmallRouter) -> None:
    rig = router_rig(router)
    lost: list[str] = []

    async def loses_posts(request: Any) -> Any:
        if request.method == "POST":
            lost.append(request.path)
            return await says("oops")(request)
        return router._list(request)

    router.fault = loses_posts
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert view.places == {router.url: None}
    assert lost
    router.fault = None
    rig.clock.now += 6
    assert (await rig.gate.reconcile(rig.member, wanted_in=False)).places == {router.url: None}
    rig.clock.now += BLIND_PATIENCE
    assert (await rig.gate.reconcile(rig.member, wanted_in=False)).all_out
    await rig.gate.close()


async def test_a_router_that_refuses_an_addition_is_not_silent(router: SmallRouter) -> None:
    rig = router_rig(router)

    async def refuses(request: Any) -> Any:
        if request.method == "POST":
            return await says("no worker of this kind", 422)(request)
        return router._list(request)

    router.fault = refuses
    for _ in range(3):
        view = await rig.gate.reconcile(rig.member, wanted_in=True)
        assert view.kept_out_by == (router.url,)
        assert "HTTP 422 to an addition: no worker of this kind" in view.message
    router.fault = None
    await rig.until(wanted_in=True)
    await rig.gate.close()


async def test_an_older_worker_on_the_same_port_is_replaced(router: SmallRouter) -> None:
    rig = router_rig(router)
    router.put(ENDPOINT + "/", worker_type="prefill", bootstrap_port=1)
    await rig.until(wanted_in=True)
    assert [w["worker_type"] for w in router.workers.values()] == ["decode"]
    await rig.gate.close()


async def test_data_parallel_ranks_are_one_worker(router: SmallRouter) -> None:
    rig = router_rig(router)
    router.put(ENDPOINT + "@0")
    router.put(ENDPOINT + "@1")
    assert (await rig.gate.reconcile(rig.member, wanted_in=True)).all_in
    router.put("http://10.0.0.7:200010")
    await rig.until(wanted_in=False)
    assert router.listed == ["http://10.0.0.7:200010"]
    await rig.gate.close()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (hangs, "no whole answer within 0.2 s"),
        (drips, "no whole answer within 0.2 s"),
        (floods, "bytes announced|more than|no whole answer"),
        (says("<html>"), "no JSON"),
        (says("[1]"), "no JSON object"),
        (says('{"workers": 5}'), "no list of workers"),
        (says('{"workers": ["x"]}'), "no list of workers"),
        (says("{}", 500), "HTTP 500"),
        (says("[" * 100_000), "no JSON"),
    ],
)
async def test_a_router_that_talks_nonsense_is_unknown_and_holds_nobody_else_up(
    router: SmallRouter, fault: Any, said: str
) -> None:
    healthy = SmallRouter()
    await healthy.start()
    clock = Clock()
    gate = SglangRouterGate(clock, deadline=0.2)
    both = member(Gate("sglang-router", (router.url, healthy.url)))
    router.fault = fault
    view = await gate.reconcile(both, wanted_in=True)
    assert view.places[router.url] is None
    assert any(part in view.message for part in said.split("|")), view.message
    clock.now += 10
    view = await gate.reconcile(both, wanted_in=True)
    assert view.places == {router.url: None, healthy.url: True}
    assert view.some_in
    assert not view.all_in
    await gate.close()
    await healthy.stop()


async def test_a_dead_router_is_asked_less_and_less_but_at_once_for_a_new_wish(
    router: SmallRouter,
) -> None:
    rig = router_rig(router)
    router.fault = says("{}", 500)
    for _ in range(40):
        await rig.gate.reconcile(rig.member, wanted_in=True)
        rig.clock.now += 0.25
    assert 4 <= len(router.requests) <= 8
    asked = len(router.requests)
    await rig.gate.reconcile(rig.member, wanted_in=False)
    assert len(router.requests) == asked + 1
    await rig.gate.close()


async def test_a_router_that_restarts_heals(router: SmallRouter) -> None:
    rig = router_rig(router)
    await rig.until(wanted_in=True)
    await router.stop()
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert view.places == {router.url: None}
    assert view.message
    router.workers.clear()
    await router.start()
    rig.clock.now += 5
    await rig.until(wanted_in=True)
    assert router.listed == [ENDPOINT]
    await rig.gate.close()


@pytest.mark.parametrize("routers", [(), ("ftp://x",), ("nonsense",), ("http://r",) * 17])
def test_routers_that_cannot_be(routers: tuple[str, ...]) -> None:
    assert SglangRouterGate(Clock()).complaint(member(Gate("sglang-router", routers)))


def test_roles_a_router_does_not_know() -> None:
    gate = Gate("sglang-router", ("http://r",))
    assert "ffn" in SglangRouterGate(Clock()).complaint(member(gate, role="ffn"))
