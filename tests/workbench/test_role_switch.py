"""The simulated engine switches between prefill and decode as SGLang does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import Role
from heteroscale_agent.hands.http import client
from heteroscale_agent.hands.roles import HttpRoles
from heteroscale_workbench.engine_sim.settings import Mode
from heteroscale_workbench.seen import SeenReader, SeenWriter
from tests.workbench.sims import Serving, serving, settings, until

ASK = {"prompt": "x " * 20, "max_tokens": 4, "model": "simulated"}


async def info(engine: Serving) -> dict[str, Any]:
    async with engine.http.get(engine.url + "/server_info") as response:
        found: dict[str, Any] = await response.json()
        return found


def pair(prefill: Serving, room: int) -> dict[str, Any]:
    where = {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.bootstrap_port}
    return {**ASK, **where, "bootstrap_room": room}


async def test_two_engines_change_places_and_serve_on() -> None:
    async with (
        serving(settings(Mode.PREFILL, role_switch=True)) as one,
        serving(settings(Mode.DECODE, role_switch=True)) as two,
    ):
        for room, (prefill, decode) in enumerate([(one, two), (two, one), (one, two)]):
            for engine, role in ((prefill, "prefill"), (decode, "decode")):
                status, told = await engine.post({"new_role": role}, "/pd_role_switch")
                assert (status, told["success"], told["new_role"]) == (200, True, role)
                states = (await info(engine))["internal_states"]
                assert states == [{"disaggregation_mode": role}]
            answers = await asyncio.gather(
                prefill.post(pair(prefill, room)), decode.post(pair(prefill, room))
            )
            assert [status for status, _ in answers] == [200, 200]
            assert answers[1][1]["usage"]["completion_tokens"] == 4
        assert (await info(one))["disaggregation_mode"] == "prefill"


async def test_it_refuses_while_anything_is_in_flight() -> None:
    async with serving(settings(Mode.PREFILL, role_switch=True)) as one:
        waits = asyncio.create_task(one.post(pair(one, 7)))
        await until(lambda: one.engine.in_flight == 1)
        status, told = await one.post({"new_role": "decode"}, "/pd_role_switch")
        assert status == 400
        assert "not idle" in told["message"]
        assert told["safe_to_restore"] is True
        assert (await one.post({"new_role": "prefill"}, "/pd_role_switch"))[0] == 200
        waits.cancel()


@pytest.mark.parametrize(
    ("mode", "able", "body", "said"),
    [
        (Mode.DECODE, False, {"new_role": "prefill"}, "--enable-pd-role-switch is not set"),
        (Mode.DECODE, True, {"new_role": "both"}, "invalid new_role='both'"),
        (Mode.DECODE, True, [], "invalid new_role=''"),
        (Mode.AGGREGATED, True, {"new_role": "prefill"}, "not running in PD"),
    ],
)
async def test_what_it_refuses(mode: Mode, *, able: bool, body: Any, said: str) -> None:
    async with (
        serving(settings(mode, role_switch=able)) as one,
        one.http.post(one.url + "/pd_role_switch", json=body) as response,
    ):
        told = await response.json()
        assert (response.status, told["success"]) == (400, False)
        assert said in told["message"]


async def test_the_agents_hands_agree_with_it() -> None:
    roles = HttpRoles(client())
    async with serving(settings(Mode.PREFILL, role_switch=True)) as one:
        at = one.url + "/pd_role_switch"
        assert await roles.role(one.url + "/server_info", 5) is Role.PREFILL
        for _ in range(2):
            assert (await roles.switch(at, Role.DECODE, {}, 5)).done
        assert await roles.role(one.url + "/server_info", 5) is Role.DECODE
    async with serving(settings(Mode.PREFILL)) as fixed:
        answer = await roles.switch(fixed.url + "/pd_role_switch", Role.DECODE, {}, 5)
        assert (answer.done, answer.intact, answer.later) == (False, True, False)


def test_ids_are_noted_under_the_role_that_saw_them(tmp_path: Path) -> None:
    writer = SeenWriter(tmp_path, "prefill", 1)
    writer.add("a")
    writer.play("decode")
    writer.play("decode")
    writer.add("a")
    writer.close()
    reader = SeenReader(tmp_path)
    assert reader.refresh() == []
    assert (reader.counts("prefill")["a"], reader.counts("decode")["a"]) == (1, 1)
