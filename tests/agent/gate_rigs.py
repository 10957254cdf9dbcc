"""Gates of every kind, a member of each, and how to break their places from outside."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroscale.words import Role
from heteroscale_agent.config import Hook
from heteroscale_agent.hands.gates.file import FileGate
from heteroscale_agent.hands.gates.hook import HookGate
from heteroscale_agent.hands.gates.none import NoGate
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.gates.sglang_router import SglangRouterGate
from heteroscale_agent.model import Gate
from tests.agent.body_twins import Clock, FakeGate
from tests.agent.small_router import SmallRouter

ENDPOINT = "http://10.0.0.7:20001"


@dataclass
class Rig:
    """A gate under test, a member of it, and how to break and mend its places from outside."""

    gate: GateKind
    member: Member
    clock: Clock
    lose: Any = None
    """Takes the member out behind the gate's back; None where that cannot be seen."""
    insert: Any = None

    async def until(self, *, wanted_in: bool, member: Member | None = None) -> View:
        """Pass again and again until all agree."""
        view = View({"never": None})
        for _ in range(5):
            view = await self.gate.reconcile(member or self.member, wanted_in=wanted_in)
            if view.all_in if wanted_in else view.all_out:
                return view
            self.clock.now += 1
        raise AssertionError(f"no agreement: {view}")


def member(gate: Gate, name: str = "i1", endpoint: str = ENDPOINT, role: str = "decode") -> Member:
    return Member(name, "chat", Role(role), endpoint, 9001, gate)


def none_rig() -> Rig:
    return Rig(NoGate(), member(Gate("none")), Clock())


def twin_rig() -> Rig:
    gate = FakeGate()
    gate.places["r2"] = set()
    return Rig(
        gate,
        member(Gate("sglang-router")),
        Clock(),
        lose=gate.places["r1"].clear,
        insert=lambda: gate.places["r1"].add("i1"),
    )


def file_rig(folder: Path) -> Rig:
    path = folder / "deep" / "decode.json"
    own = {"endpoint": ENDPOINT, "instance_id": "i1", "role": "decode"}
    return Rig(
        FileGate(folder),
        member(Gate("file", options={"path": "deep/decode.json"})),
        Clock(),
        lose=path.unlink,
        insert=lambda: path.write_text(json.dumps({"endpoints": [own]})),
    )


_HOOK = """
import pathlib, sys
mark = pathlib.Path(sys.argv[2])
match sys.argv[1]:
    case "open": mark.write_text(" ".join(sys.argv[3:]))
    case "close": mark.unlink(missing_ok=True)
    case "check": sys.exit(0 if mark.exists() else 1)
"""


def hook_of(folder: Path, *, check: bool = True, timeout: float = 20.0) -> Hook:
    script, mark = folder / "hook.py", folder / "mark"
    script.write_text(_HOOK)
    run = (sys.executable, "-S", str(script))
    told = ("{instance_id}", "{endpoint}", "{role}", "{service}")
    return Hook(
        open=(*run, "open", str(mark), *told),
        close=(*run, "close", str(mark)),
        check=(*run, "check", str(mark)) if check else (),
        timeout=timeout,
    )


def hook_rig(folder: Path) -> Rig:
    mark = folder / "mark"
    return Rig(
        HookGate({"lb": hook_of(folder)}),
        member(Gate("hook", options={"hook": "lb"})),
        Clock(),
        lose=mark.unlink,
        insert=lambda: mark.write_text("x"),
    )


def router_rig(router: SmallRouter) -> Rig:
    clock = Clock()
    return Rig(
        SglangRouterGate(clock, deadline=5.0),
        member(Gate("sglang-router", (router.url + "/",))),
        clock,
        lose=router.workers.clear,
        insert=lambda: router.put(ENDPOINT),
    )
