"""One contract for every kind of gate, and what is particular to each."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import Role
from heteroscale_agent.config import Hook
from heteroscale_agent.hands.gates.file import FileGate
from heteroscale_agent.hands.gates.hook import HookGate
from heteroscale_agent.hands.gates.none import NoGate
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.gates.sglang_router import BLIND_PATIENCE, SglangRouterGate
from heteroscale_agent.model import Gate
from tests.agent.body_twins import Clock, FakeGate
from tests.agent.small_router import SmallRouter, drips, floods, hangs, says

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


@pytest.fixture
async def router() -> AsyncIterator[SmallRouter]:
    small = SmallRouter()
    await small.start()
    yield small
    await small.stop()


def _none_rig() -> Rig:
    return Rig(NoGate(), member(Gate("none")), Clock())


def _twin_rig() -> Rig:
    gate = FakeGate()
    gate.places["r2"] = set()
    return Rig(
        gate,
        member(Gate("sglang-router")),
        Clock(),
        lose=gate.places["r1"].clear,
        insert=lambda: gate.places["r1"].add("i1"),
    )


def _file_rig(folder: Path) -> Rig:
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


def _hook_rig(folder: Path) -> Rig:
    mark = folder / "mark"
    return Rig(
        HookGate({"lb": hook_of(folder)}),
        member(Gate("hook", options={"hook": "lb"})),
        Clock(),
        lose=mark.unlink,
        insert=lambda: mark.write_text("x"),
    )


def _router_rig(router: SmallRouter) -> Rig:
    clock = Clock()
    return Rig(
        SglangRouterGate(clock, deadline=5.0),
        member(Gate("sglang-router", (router.url + "/",))),
        clock,
        lose=router.workers.clear,
        insert=lambda: router.put(ENDPOINT),
    )


@pytest.fixture(params=["none", "twin", "file", "hook", "sglang-router"])
async def rig(
    request: pytest.FixtureRequest, tmp_path: Path, router: SmallRouter
) -> AsyncIterator[Rig]:
    makers: dict[str, Callable[[], Rig]] = {
        "none": _none_rig,
        "twin": _twin_rig,
        "file": lambda: _file_rig(tmp_path),
        "hook": lambda: _hook_rig(tmp_path),
        "sglang-router": lambda: _router_rig(router),
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
    rig = _router_rig(router)
    gate = Gate("sglang-router", (router.url,), {"model_id": "tiny"})
    await rig.until(wanted_in=True, member=member(gate, role=role))
    assert body_of(router) == [{"url": ENDPOINT, "model_id": "tiny", **told}]
    await rig.gate.close()


async def test_an_addition_still_queued_is_not_out(router: SmallRouter) -> None:
    rig = _router_rig(router)
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
    rig = _router_rig(router)
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
    rig = _router_rig(router)
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
    rig = _router_rig(router)

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
    rig = _router_rig(router)
    router.put(ENDPOINT + "/", worker_type="prefill", bootstrap_port=1)
    await rig.until(wanted_in=True)
    assert [w["worker_type"] for w in router.workers.values()] == ["decode"]
    await rig.gate.close()


async def test_data_parallel_ranks_are_one_worker(router: SmallRouter) -> None:
    rig = _router_rig(router)
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
    rig = _router_rig(router)
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
    rig = _router_rig(router)
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


# ---- hook ----


async def test_hooks_are_told_who_it_is_about(tmp_path: Path) -> None:
    rig = _hook_rig(tmp_path)
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


# ---- file ----


async def test_files_keep_the_entries_of_others_and_their_order(tmp_path: Path) -> None:
    gate = FileGate(tmp_path)
    for form, expected in (
        ("lines", "http://a:1\nhttp://b:1\n"),
        ("json", None),
    ):
        options = {"path": f"decode.{form}", "format": form}
        two = member(Gate("file", options=options), "i2", "http://b:1")
        one = member(Gate("file", options=options), "i1", "http://a:1")
        for each in (two, one):
            await gate.reconcile(each, wanted_in=True)
        text = (tmp_path / f"decode.{form}").read_text()
        if expected is not None:
            assert text == expected
        else:
            listed = json.loads(text)["endpoints"]
            assert [entry["instance_id"] for entry in listed] == ["i1", "i2"]
        await gate.reconcile(one, wanted_in=False)
        assert (await gate.reconcile(two, wanted_in=True)).all_in


async def test_what_is_others_stays_as_it_is_and_where_it_is(tmp_path: Path) -> None:
    others = [
        {"endpoint": "http://z:1", "weight": 2, "drained": False, "tags": ["a", None]},
        {"endpoint": "http://a:1", "zone": {"rack": 7}},
        {"weight": 1.5},
        "http://10.0.0.7:20001",
        {"endpoint": 5},
    ]
    before = {"version": 3, "endpoints": others, "owner": None}
    path = tmp_path / "in.json"
    path.write_text(json.dumps(before))
    gate, at = FileGate(tmp_path), member(Gate("file", options={"path": "in.json"}))
    assert not (await gate.reconcile(at, wanted_in=True)).all_in
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    after = json.loads(path.read_text())
    own = {"endpoint": ENDPOINT, "instance_id": "i1", "role": "decode"}
    after["endpoints"].remove(own)
    assert after == before
    await gate.reconcile(at, wanted_in=False)
    assert json.loads(path.read_text()) == before
    await gate.close()


async def test_lines_of_others_stay_as_they_are_and_where_they_are(tmp_path: Path) -> None:
    before = "# mine by hand\n\n  http://z:1\nhttp://a:1\n"
    (tmp_path / "in").write_text(before)
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    await gate.reconcile(at, wanted_in=True)
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    await gate.reconcile(at, wanted_in=False)
    assert (tmp_path / "in").read_text() == before
    await gate.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"endpoints": 5}', "\x00\xff"])
async def test_a_file_of_nonsense_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "decode.json").write_text(text, encoding="latin-1")
    rig = _file_rig(tmp_path)
    rig.member = member(Gate("file", options={"path": "decode.json"}))
    await rig.until(wanted_in=True)
    assert len(json.loads((tmp_path / "decode.json").read_text())["endpoints"]) == 1


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x"])
def test_files_stay_below_the_gate_folder(tmp_path: Path, path: str) -> None:
    assert FileGate(tmp_path).complaint(member(Gate("file", options={"path": path})))


async def test_a_file_that_cannot_be_written_is_unknown(tmp_path: Path) -> None:
    rig = _file_rig(tmp_path)
    (tmp_path / "deep").write_text("a file where a folder should be")
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert list(view.places.values()) == [None]
    assert view.message


async def test_a_file_that_cannot_be_read_whole_is_left_as_it_is(tmp_path: Path) -> None:
    text = "".join(f"http://10.1.0.1:{port}\n" for port in range(1000, 1010)) + "#" * (4 << 20)
    (tmp_path / "in").write_text(text)
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    view = await gate.reconcile(at, wanted_in=True)
    assert list(view.places.values()) == [None]
    assert (tmp_path / "in").read_text() == text
    await gate.close()


async def test_letters_of_others_stay_whatever_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"# K\xf6ln\n")
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    await gate.reconcile(at, wanted_in=True)
    assert (tmp_path / "in").read_bytes().startswith(b"# K\xf6ln\n")
    await gate.close()


async def test_an_instance_that_moved_port_leaves_nothing_behind(tmp_path: Path) -> None:
    rig = _file_rig(tmp_path)
    await rig.until(wanted_in=True)
    taken_over = replace(rig.member, instance_id="i9")
    await rig.until(wanted_in=True, member=taken_over)
    listed = json.loads((tmp_path / "deep" / "decode.json").read_text())["endpoints"]
    assert [entry["instance_id"] for entry in listed] == ["i9"]
