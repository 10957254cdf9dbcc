"""The hook gate: what hooks are told, and what their failures mean."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heteroscale_agent.config import Hook
from heteroscale_agent.hands.gates.hook import HookGate
from heteroscale_agent.model import Gate
from tests.agent.body_twins import Clock
from tests.agent.gate_rigs import (
    ENDPOINT,
    Rig,
    hook_of,
    hook_rig,
    member,
)


async def test_hooks_are_told_who_it_is_about(tmp_path: Path) -> None:
    rig = hook_rig(tmp_path)
    await rig.until(wanted_in=True)
    assert (tmp_path / "mark").read_text() == f"i1 {ENDPOINT} decode chat"


async def test_a_hook_without_check_is_believed_and_not_run_again(tmp_path: Path) -> None:
    gate = HookGate({"lb": hook_of(tmp_path, check=False)})
    rig = Rig(gate, member(Gate("hook", options={"open": "lb", "close": "lb"})), Clock())
    await rig.until(wanted_in=True)
    (tmp_path / "mark").unlink()
    assert (await gate.reconcile(rig.member, wanted_in=True)).all_in
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "command", [("/nonexistent/program",), (sys.executable, "-S", "-c", "raise SystemExit(7)")]
)
async def test_hooks_that_fail_are_unknown(command: tuple[str, ...]) -> None:
    gate = HookGate({"lb": Hook(open=command, close=command, check=command)})
    view = await gate.reconcile(member(Gate("hook", options={"hook": "lb"})), wanted_in=True)
    assert list(view.places.values()) == [None]
    assert "hook" in view.message


async def test_a_hook_that_failed_to_open_is_closed_before_it_is_out(tmp_path: Path) -> None:
    closes = ("touch", str(tmp_path / "closed"))
    hook = Hook(open=("false",), close=closes)
    gate, at = HookGate({"lb": hook}), member(Gate("hook", options={"hook": "lb"}))
    await gate.reconcile(at, wanted_in=False)
    assert (await gate.reconcile(at, wanted_in=False)).all_out
    (tmp_path / "closed").unlink()
    await gate.reconcile(at, wanted_in=True)
    assert not (await gate.reconcile(at, wanted_in=False)).all_out, "it may have opened half"
    assert (tmp_path / "closed").exists()
    assert (await gate.reconcile(at, wanted_in=False)).all_out


async def test_a_hook_that_hangs_is_killed() -> None:
    hangs_for_ever = ("sleep", "1000")
    gate = HookGate({"lb": Hook(open=hangs_for_ever, close=hangs_for_ever, timeout=0.05)})
    view = await gate.reconcile(member(Gate("hook", options={"hook": "lb"})), wanted_in=True)
    assert "took too long" in view.message


def test_hooks_must_be_configured(tmp_path: Path) -> None:
    gate = HookGate({"lb": hook_of(tmp_path)})
    assert "no hook 'x'" in gate.complaint(member(Gate("hook", options={"hook": "x"})))
    assert "needs the option" in gate.complaint(member(Gate("hook")))
