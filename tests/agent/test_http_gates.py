"""Gates that speak HTTP: hooks of one's own, and labels on pods; each over real sockets."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from heteroscale.words import Role
from heteroscale_agent.config.gates import HttpCheck, HttpHook, Pods
from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.hands.gates.http import HttpGate, judge
from heteroscale_agent.hands.gates.labels import KEY, LabelsGate
from heteroscale_agent.hands.gates.port import Member
from heteroscale_agent.hands.http import client
from heteroscale_agent.model import Gate
from tests.agent.small_balancer import SmallBalancer
from tests.agent.small_pods import NAMESPACE, SmallPods
from tests.agent.small_router import drips, floods, hangs, says

HOOKED = Gate("http", options={"hook": "lb"})


@pytest.fixture
async def balancer() -> AsyncIterator[SmallBalancer]:
    small = SmallBalancer()
    await small.start()
    yield small
    await small.stop()


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[SmallPods]:
    small = SmallPods(tmp_path)
    await small.start()
    yield small
    await small.stop()


def member(gate: Gate = HOOKED, name: str = "i1", origin: str = "") -> Member:
    return Member(name, "chat", Role.DECODE, "http://10.0.0.7:20001", None, gate, origin)


def hook(balancer: SmallBalancer, folder: Path, *, check: bool = True, **changes: Any) -> HttpHook:
    (folder / "token").write_text("s3cret\nnever read\n")
    secrets = {"X-Token": {"file": str(folder / "token"), "prefix": "Bearer "}}
    body = {"server": "{host}:{port}", "tags": ["{role}", "{service}", "{instance_id}"], "n": 1}
    told: dict[str, Any] = {
        "open": {"url": balancer.url + "/servers", "body": body, "secrets": secrets},
        "close": {
            "method": "DELETE",
            "url": balancer.url + "/servers/{host}:{port}",
            "secrets": secrets,
            "expect": [204, 404],
        },
        "check": {"url": balancer.url + "/servers/{host}:{port}", "secrets": secrets},
        **changes,
    }
    if not check:
        del told["check"]
    return HttpHook.model_validate(told)


# ---- http ----


async def test_requests_are_made_as_they_are_written(
    balancer: SmallBalancer, tmp_path: Path
) -> None:
    gate = HttpGate({"lb": hook(balancer, tmp_path)}, client())
    assert (await gate.reconcile(member(), wanted_in=True)).places == {"lb": False}
    assert (await gate.reconcile(member(), wanted_in=True)).all_in
    assert balancer.servers == {
        "10.0.0.7:20001": {"server": "10.0.0.7:20001", "tags": ["decode", "chat", "i1"], "n": 1}
    }
    assert set(balancer.tokens) == {"Bearer s3cret"}
    assert (await gate.reconcile(member(), wanted_in=False)).places == {"lb": True}
    assert (await gate.reconcile(member(), wanted_in=False)).all_out
    assert balancer.asked == [
        *("GET /servers/10.0.0.7:20001", "POST /servers", "GET /servers/10.0.0.7:20001"),
        *("GET /servers/10.0.0.7:20001", "DELETE /servers/10.0.0.7:20001"),
        "GET /servers/10.0.0.7:20001",
    ]


async def test_what_was_lost_behind_its_back_is_put_back(
    balancer: SmallBalancer, tmp_path: Path
) -> None:
    gate = HttpGate({"lb": hook(balancer, tmp_path)}, client())
    await gate.reconcile(member(), wanted_in=True)
    balancer.servers.clear()
    assert not (await gate.reconcile(member(), wanted_in=True)).all_in
    assert (await gate.reconcile(member(), wanted_in=True)).all_in


async def test_a_hook_without_check_is_believed_until_the_wish_changes(
    balancer: SmallBalancer, tmp_path: Path
) -> None:
    gate = HttpGate({"lb": hook(balancer, tmp_path, check=False)}, client())
    assert (await gate.reconcile(member(), wanted_in=True)).places == {"lb": None}
    assert (await gate.reconcile(member(), wanted_in=True)).all_in
    assert balancer.asked == ["POST /servers"]
    balancer.status = 500
    view = await gate.reconcile(member(), wanted_in=False)
    assert view.places == {"lb": None}
    assert "HTTP 500 to close" in view.message
    balancer.status = None
    await gate.reconcile(member(), wanted_in=False)
    assert (await gate.reconcile(member(), wanted_in=False)).all_out


@pytest.mark.parametrize("fault", [hangs, drips, floods, says("x", 302), says("x", 500)])
async def test_answers_that_say_nothing_are_unknown(
    balancer: SmallBalancer, tmp_path: Path, fault: Any
) -> None:
    gate = HttpGate({"lb": hook(balancer, tmp_path, timeout="200ms")}, client())
    balancer.fault = fault
    for wanted_in in (True, False):
        view = await gate.reconcile(member(), wanted_in=wanted_in)
        assert view.places == {"lb": None}
        assert view.message


async def test_a_secret_that_hangs_holds_up_nobody_else(
    balancer: SmallBalancer, tmp_path: Path
) -> None:
    settings = hook(balancer, tmp_path, timeout="200ms")
    (tmp_path / "token").unlink()
    os.mkfifo(tmp_path / "token")  # opening it hangs until somebody writes
    # Were it read on the loop, all would stand still until then, and the secret be good.
    let_go = threading.Timer(30.0, (tmp_path / "token").write_text, ["s3cret\n"])
    let_go.start()
    gate = HttpGate({"lb": settings}, client())
    try:
        view = await gate.reconcile(member(), wanted_in=True)
        assert view.places == {"lb": None}
        assert "no answer within 0.2 s" in view.message
        assert "still hangs" in (await gate.reconcile(member(), wanted_in=True)).message
    finally:
        let_go.cancel()
        (tmp_path / "token").write_text("s3cret\n")
        await gate.close()
    assert balancer.asked == []


async def test_a_secret_that_is_not_there_is_said_without_its_place(
    balancer: SmallBalancer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = hook(balancer, tmp_path)
    (tmp_path / "token").unlink()
    view = await HttpGate({"lb": settings}, client()).reconcile(member(), wanted_in=True)
    assert view.message == "lb: no secret for header X-Token: FileNotFoundError"
    assert balancer.asked == []
    call = {"url": balancer.url + "/servers", "secrets": {"X-Token": {"env": "LB_TOKEN"}}}
    by_env = HttpHook.model_validate({"open": call, "close": call})
    monkeypatch.setenv("LB_TOKEN", "from-env")
    await HttpGate({"lb": by_env}, client()).reconcile(member(), wanted_in=True)
    assert balancer.tokens == ["from-env"]
    monkeypatch.setenv("LB_TOKEN", "hunter2\nsecond-line")
    view = await HttpGate({"lb": by_env}, client()).reconcile(member(), wanted_in=True)
    assert view.places == {"lb": None}
    assert "hunter2" not in view.message
    assert "letters it may not have" in view.message


@pytest.mark.parametrize(
    ("status", "text", "seen"),
    [
        (200, '{"state": {"a/b": ["up"]}}', True),
        (200, '{"state": {"a/b": ["down"]}}', False),
        (200, '{"state": {"a/b": ["odd"]}}', None),
        (200, '{"state": {"a/b": []}}', None),
        (200, '{"state": {"a/b": [1]}}', None),
        (200, '{"state": 5}', None),
        (200, "<html>", None),
        (404, "whatever", False),
        (503, '{"state": {"a/b": ["down"]}}', None),
    ],
)
async def test_a_pointer_says_in_out_or_nothing(
    status: int,
    text: str,
    seen: bool | None,
) -> None:
    told = {"url": "http://x/", "pointer": "/state/a~1b/0", "inValues": ["up", True]}
    check = HttpHook.model_validate(
        {
            "open": {"url": "http://x/"},
            "close": {"url": "http://x/"},
            "check": {**told, "outValues": ["down"]},
        }
    ).check
    assert check is not None
    assert judge(check, status, text.encode()) is seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"urls": ["http://a:1", "http://b:1"]}', True),
        ('{"urls": ["http://b:1", "http://a:11"]}', False),
        ('{"urls": []}', False),
        ('{"urls": "http://a:1"}', None),
        ('{"urls": [1, "http://a:1"]}', None),
        ("{}", None),
    ],
)
def test_a_list_says_in_out_or_nothing(text: str, *, seen: bool | None) -> None:
    check = HttpCheck(url="http://x/", pointer="/urls", lists="{endpoint}")
    assert judge(check, 200, text.encode(), "http://a:1") is seen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"check": {"url": "http://x", "lists": "{endpoint}"}}, "needs a `pointer`"),
        ({"open": {"url": "ftp://x"}}, "no http:// or https:// URL"),
        ({"open": {"url": "http://x", "secrets": {"A": {}}}}, "one of the two"),
        ({"check": {"url": "http://x", "inStatuses": [404]}}, "cannot be in both"),
        ({"check": {"url": "http://x", "pointer": "state"}}, "must begin with /"),
    ],
)
def test_hooks_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    told = {"open": {"url": "http://x"}, "close": {"url": "http://x"}, **changes}
    with pytest.raises(ValidationError, match=said):
        HttpHook.model_validate(told)


def test_http_hooks_must_be_configured() -> None:
    gate = HttpGate({}, client())
    assert "no hook 'lb'" in gate.complaint(member())
    assert "needs the option" in gate.complaint(member(Gate("http")))


# ---- labels ----


POD = f"pod/{NAMESPACE}/vllm-0"


def labels(pods: SmallPods, timeout: float = 5.0, **changes: Any) -> LabelsGate:
    access = pods.access.model_copy(update=changes)
    return LabelsGate(access, Pods(namespace=NAMESPACE, timeout=timeout), client())


async def test_the_label_is_dropped_and_restored_and_nothing_else_changes(pods: SmallPods) -> None:
    gate, at = labels(pods), member(Gate("labels"), origin=POD)
    assert gate.complaint(at) == ""
    worn = pods.labels("vllm-0")
    assert (await gate.reconcile(at, wanted_in=True)).places == {POD: True}
    assert (await gate.reconcile(at, wanted_in=False)).places == {POD: True}
    assert pods.labels("vllm-0") == {k: v for k, v in worn.items() if k != KEY}
    assert (await gate.reconcile(at, wanted_in=False)).all_out
    assert (await gate.reconcile(at, wanted_in=True)).places == {POD: False}
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    assert pods.labels("vllm-0") == worn
    assert pods.patches == [{KEY: None}, {KEY: "true"}]


async def test_key_and_values_may_be_others(pods: SmallPods) -> None:
    options = {"key": "pool", "value": "chat", "outValue": "resting", "pod": "vllm-0"}
    gate, at = labels(pods), member(Gate("labels", options=options))
    pods.labels("vllm-0")["pool"] = "somewhere-else"
    assert (await gate.reconcile(at, wanted_in=False)).places == {POD: None}
    assert (await gate.reconcile(at, wanted_in=False)).all_out
    assert pods.labels("vllm-0")["pool"] == "resting"
    await gate.reconcile(at, wanted_in=True)
    assert (await gate.reconcile(at, wanted_in=True)).all_in


async def test_a_sidecar_knows_its_own_pod(
    pods: SmallPods, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = member(Gate("labels"))
    gate = labels(pods)
    monkeypatch.delenv("POD_NAME", raising=False)
    assert "no pod is named" in gate.complaint(at)
    monkeypatch.setenv("POD_NAME", "vllm-0")
    assert gate.complaint(at) == ""
    assert (await gate.reconcile(at, wanted_in=True)).places == {POD: True}


@pytest.mark.parametrize("by", ["configuration", "environment"])
async def test_a_service_points_no_agent_at_another_pod(
    pods: SmallPods, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.delenv("POD_NAME", raising=False)
    if by == "environment":
        monkeypatch.setenv("POD_NAME", "vllm-0")
    own = Pods(namespace=NAMESPACE, pod="vllm-0" if by == "configuration" else "")
    gate = LabelsGate(pods.access, own, client())
    at = member(Gate("labels", options={"pod": "kube-system/other"}))
    assert (await gate.reconcile(at, wanted_in=True)).places == {POD: True}


async def test_a_pod_that_is_gone_is_out(pods: SmallPods) -> None:
    gate, at = labels(pods), member(Gate("labels"), origin=f"pod/{NAMESPACE}/gone")
    assert (await gate.reconcile(at, wanted_in=False)).all_out


async def test_a_new_pod_of_the_same_name_is_not_touched_for_the_old_one(pods: SmallPods) -> None:
    gate, at = labels(pods), member(Gate("labels"), origin=POD)
    pods.swap_before_patch = True
    view = await gate.reconcile(at, wanted_in=False)
    assert view.places == {POD: None}
    assert "HTTP 409" in view.message
    assert pods.labels("vllm-0")[KEY] == "true"


@pytest.mark.parametrize(
    "fault", [hangs, floods, says("<html>"), says("{}"), says("nope", 404), says("{}", 403)]
)
async def test_an_api_server_that_says_nothing_is_unknown(pods: SmallPods, fault: Any) -> None:
    gate, at = labels(pods, timeout=0.2), member(Gate("labels"), origin=POD)
    pods.fault = fault
    for wanted_in in (True, False):
        view = await gate.reconcile(at, wanted_in=wanted_in)
        assert view.places == {POD: None}
        assert view.message


async def test_a_wrong_token_or_authority_is_unknown(pods: SmallPods, tmp_path: Path) -> None:
    at = member(Gate("labels"), origin=POD)
    (tmp_path / "other-token").write_text("other")
    view = await labels(pods, token_file=tmp_path / "other-token").reconcile(at, wanted_in=False)
    assert "HTTP 401" in view.message
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.crt"))
    view = await labels(pods, ca_file=tmp_path / "other.crt").reconcile(at, wanted_in=False)
    assert "certificate" in view.message.lower()
    view = await labels(pods, token_file=tmp_path / "none").reconcile(at, wanted_in=False)
    assert "none: No such file" in view.message


async def test_the_token_goes_nowhere_in_clear_text(pods: SmallPods) -> None:
    at = member(Gate("labels"), origin=POD)
    for server in ("http://192.0.2.1:1", "http://127.0.0.1.example:1", "http://[::2]:1"):
        gate = labels(pods, api_server=server)
        view = await gate.reconcile(at, wanted_in=False)
        assert "is not https: the token is not sent there" in view.message
        await gate.close()


async def test_an_authority_that_was_renewed_is_trusted(pods: SmallPods) -> None:
    gate, at = labels(pods), member(Gate("labels"), origin=POD)
    right = pods.access.ca_file.read_text()
    trustme.CA().cert_pem.write_to_path(str(pods.access.ca_file))
    assert "certificate" in (await gate.reconcile(at, wanted_in=True)).message.lower()
    pods.access.ca_file.write_text(right)
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    await gate.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "pod-template-hash"}, "cannot use the key"),
        ({"key": "a b"}, "cannot use the key"),
        ({"value": "a b"}, "no value of a label"),
        ({"outValue": "true"}, "the same"),
        ({"pod": "../../secrets/x"}, "no pod is named"),
    ],
)
def test_labels_that_cannot_be(options: dict[str, str], said: str) -> None:
    gate = LabelsGate(
        KubernetesAccess(api_server="https://10.0.0.1"), Pods(namespace="llm"), client()
    )
    assert said in gate.complaint(member(Gate("labels", options={"pod": "p", **options})))


def test_labels_need_an_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    at = member(Gate("labels", options={"pod": "vllm-0"}))
    gate = LabelsGate(KubernetesAccess(), Pods(), client())
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "kubernetes.apiServer" in gate.complaint(at)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert gate.complaint(at) == ""
