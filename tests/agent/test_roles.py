"""What an engine answers about its role, over real HTTP: every kind of answer, and none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from heteroscale.words import Role
from heteroscale_agent.hands.http import client
from heteroscale_agent.hands.roles import HttpRoles
from tests.agent.small_balancer import SmallBalancer
from tests.agent.small_router import floods, hangs, says

FINE = {"success": True, "message": "ok", "old_role": "decode", "new_role": "prefill"}


@pytest.fixture
async def engine() -> AsyncIterator[SmallBalancer]:
    small = SmallBalancer()
    await small.start()
    yield small
    await small.stop()


async def test_it_is_asked_as_sglang_wants_it(engine: SmallBalancer) -> None:
    bodies: list[Any] = []

    async def listens(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response(FINE)

    engine.fault = listens
    more = {"decode_cuda_graph_memory_gb": 1.5, "new_role": "nonsense"}
    answer = await HttpRoles(client()).switch(engine.url + "/x", Role.PREFILL, more, 5)
    assert answer.done
    assert bodies == [{"decode_cuda_graph_memory_gb": 1.5, "new_role": "prefill"}]


def refusal(message: str, **more: object) -> str:
    return json.dumps({"success": False, "message": message, **more})


@pytest.mark.parametrize(
    ("status", "text", "intact", "later"),
    [
        (400, refusal("instance is not idle; drain all requests before switching"), None, True),
        (400, refusal("another role switch is already in progress"), False, True),
        (400, refusal("not idle", safe_to_restore=True), None, True),
        (400, refusal("--enable-pd-role-switch is not set on this instance"), True, False),
        (400, refusal("transfer backend 'fake' does not support it"), True, False),
        (400, refusal("role switch failed; instance unhealthy, restart required: x"), False, False),
        (400, refusal("role switch raised: x"), False, False),
        (400, refusal("some new reason", safe_to_restore=False), False, False),
        (
            400,
            refusal("insufficient headroom, restart with more", safe_to_restore=True),
            True,
            False,
        ),
        (404, '{"detail": "Not Found"}', True, False),
        (405, "", True, False),
        (500, '{"error": "x"}', None, True),
        (200, "<html>", None, True),
        (200, "{}", None, True),
        (200, json.dumps({**FINE, "new_role": "decode"}), None, True),
    ],
)
async def test_refusals_are_told_apart(
    engine: SmallBalancer, status: int, text: str, *, intact: bool | None, later: bool
) -> None:
    engine.fault = says(text, status)
    answer = await HttpRoles(client()).switch(engine.url + "/x", Role.PREFILL, {}, 5)
    assert (answer.done, answer.intact, answer.later) == (False, intact, later)


@pytest.mark.parametrize("fault", [hangs, floods])
async def test_an_engine_that_does_not_answer_may_have_done_it(
    engine: SmallBalancer, fault: Any
) -> None:
    engine.fault = fault
    roles = HttpRoles(client())
    answer = await roles.switch(engine.url + "/x", Role.PREFILL, {}, 0.2)
    assert (answer.done, answer.later) == (False, True)
    assert answer.message
    assert await roles.role(engine.url + "/x", 0.2) is None


@pytest.mark.parametrize(
    ("states", "role"),
    [
        (["prefill"], Role.PREFILL),
        (["decode", "decode"], Role.DECODE),
        (["prefill", "decode"], None),
        (["null"], None),
        ([None], None),
        ([], None),
    ],
)
async def test_the_live_role_is_what_all_schedulers_say(
    engine: SmallBalancer, states: list[str | None], role: Role | None
) -> None:
    told = [{"disaggregation_mode": mode} for mode in states]
    body = {"disaggregation_mode": "prefill", "internal_states": told}
    engine.fault = says(json.dumps(body))
    assert await HttpRoles(client()).role(engine.url + "/x", 5) is role


@pytest.mark.parametrize(
    "text", ["<html>", "{}", '{"disaggregation_mode": "prefill"}', '{"internal_states": ["x"]}']
)
async def test_the_role_of_its_launch_is_no_live_role(engine: SmallBalancer, text: str) -> None:
    engine.fault = says(text)
    assert await HttpRoles(client()).role(engine.url + "/x", 5) is None
