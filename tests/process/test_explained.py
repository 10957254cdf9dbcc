"""``heteroscale explain --at`` and ``get decisions`` against a real coordinator and its record."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from heteroscale_workbench.demo.profile import SERVICE
from tests.process.stage import Stage

pytestmark = pytest.mark.process


async def typed(stage: Stage, *words: str) -> tuple[int, str, str]:
    """Type a command as a person would; return its code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heteroscale_cli", *words),
        *("--coordinator", stage.cluster.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def listed(stage: Stage, *words: str) -> list[dict[str, Any]]:
    code, out, err = await typed(stage, "get", "decisions", SERVICE, *words, "-o", "json")
    assert code == 0, err
    decisions: list[dict[str, Any]] = json.loads(out)["decisions"]
    return decisions


async def test_a_past_decision_is_replayed_exactly_and_a_time_outside_says_what_there_is(
    stage: Stage,
) -> None:
    await stage.want(1, 1)
    await stage.until_serving(1, 1)
    await stage.want(1, 2)
    await stage.until_serving(1, 2)

    async def reckoned() -> bool:
        held = await listed(stage, "--action", "hold", "-n", "1")
        return any(one["name"] == "R" for one in held[0]["sums"])

    await stage.until(reckoned, "a hold with its load")
    acted = await listed(stage, "--acted")
    assert {one["action"] for one in acted} == {"repair"}
    first = acted[-1]
    begun = datetime.fromisoformat(first["time"])
    # As a person reads it off the list; the record answers with the decision that was in force then.
    code, out, err = await typed(stage, "explain", SERVICE, "--at", first["last_time"])
    assert code == 0, err
    assert out.startswith(f"At {begun.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC:\n{SERVICE}: repair: ")
    same = re.findall(r"^  same (\S+) = (\S+)", out, re.MULTILINE)
    assert {name for name, _ in same} == {one["name"] for one in first["sums"]}
    assert "WRONG" not in out
    assert {"S", "gpus_left", "tau_decode_"} & {name for name, _ in same}
    by_instance = await listed(stage, "--instance", first["instance_ids"][0])
    assert [one["decision_id"] for one in by_instance] == [first["decision_id"]]
    assert all(line["replayed"] for one in acted for line in one["sums"])
    code, _, err = await typed(stage, "explain", SERVICE, "--at", "-3h")
    assert code == 1
    assert "is outside of the record" in err
    assert "the record goes from" in err
