"""The doctor's word on engines that nobody configured."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.doctor import discovered
from heteroscale_agent.doctor.finding import Case, Level
from tests.agent.kube_twin import kube_twin, pod
from tests.agent.test_discovery_processes import tree

JOB = "0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0"


def case(proc: Path, **fields: Any) -> Case:
    spec = AgentSpec.model_validate({"coordinator": "127.0.0.1:1", **fields})
    return Case(spec, 0.5, environ={}, proc=proc)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    tree(tmp_path, 77, argv="vllm serve Qwen/Qwen3-8B --port 8000", cgroup="0::/")
    return tmp_path


def test_an_engine_that_nobody_looks_for_is_told(proc: Path) -> None:
    (one,) = discovered.look(case(proc))
    assert (one.check, one.level) == ("process/77", Level.NOTE)
    assert one.saw == "vllm at port 8000 runs here, and nobody watches it"
    assert "discovery" in one.todo


def test_an_engine_without_a_service_is_told_with_its_model(proc: Path) -> None:
    (one,) = discovered.look(case(proc, discovery={"processes": {}}))
    assert one.level is Level.NOTE
    assert "Qwen/Qwen3-8B" in one.saw
    assert "discovery.services" in one.todo


def test_an_engine_that_is_watched(proc: Path) -> None:
    wanted = {"processes": {}, "services": {"Qwen*": "chat"}}
    (one,) = discovered.look(case(proc, discovery=wanted))
    assert one.level is Level.OK
    assert "watched for service chat" in one.saw


def test_what_the_configuration_names_is_no_discovery(proc: Path) -> None:
    named = {"instanceId": "a", "service": "chat", "role": "decode"}
    engines = [{**named, "endpoint": "http://127.0.0.1:8000/"}]
    (one,) = discovered.look(case(proc, engines=engines, discovery={"processes": {}}))
    assert (one.check, one.level) == ("discovery", Level.OK)


def test_nothing_is_said_where_there_is_nothing_and_nobody_asked(tmp_path: Path) -> None:
    assert list(discovered.look(case(tmp_path))) == []


def test_sources_that_fail_are_problems_and_hide_no_engine(proc: Path) -> None:
    wanted = {"kubernetes": {}, "slurm": {"timeout": "200ms"}}
    found = list(discovered.look(case(proc, discovery=wanted)))
    problems = {one.check for one in found if one.level is Level.PROBLEM}
    assert "discovery by kubernetes" in problems
    assert [one.check for one in found if one.check.startswith("process/")] == ["process/77"]


async def test_a_pod_of_which_an_adapter_tells_is_only_measured(tmp_path: Path) -> None:
    labels = {"heteroscale.io/port": "8000", "heteroscale.io/service": "chat"}
    async with kube_twin(tmp_path) as twin:
        twin.pods = [pod("chat-0", labels={**labels, "heteroscale.io/instance": "i-1"})]
        spec = {"kubernetes": twin.access, "discovery": {"kubernetes": {"timeout": "20s"}}}
        asked = replace(case(tmp_path, **spec), deadline=60.0)
        (one,) = await asyncio.to_thread(lambda: list(discovered.look(asked)))
    assert (one.check, one.level) == ("pod/serving/chat-0", Level.OK)
    assert one.saw == "engine at port 8000, measured only: an adapter tells of it as i-1"
