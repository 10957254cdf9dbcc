"""The doctor: what it says of a host, of hosts that hang, and of settings that cannot work."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from heteroscale.words import InstanceState, Role
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.doctor import (
    certificates,
    checkup,
    coordinator,
    engines,
    gates,
    host,
    permissions,
    rdma,
    routers,
    service,
    state,
    templates,
    topology,
)
from heteroscale_agent.doctor.command import _AFTER_ENGINES, _LOOKS, run
from heteroscale_agent.doctor.finding import Case, Finding, Level, Look, note, ok, problem
from heteroscale_agent.doctor.show import Report, as_json, as_text
from heteroscale_agent.identity import StateDirectory
from heteroscale_agent.instances import Record, dump_record
from heteroscale_agent.journal import Journal
from heteroscale_agent.ledger import epoch_entry, instance_entry
from heteroscale_agent.model import Gate, Launch
from heteroscale_workbench import nvml_stub
from heteroscale_workbench.rdma_tree import RdmaHost, RdmaPort
from tests.agent.metrics_server import answer, hangs, metrics_server

FIXTURES = Path(__file__).parent / "fixtures"
VLLM = (FIXTURES / "vllm-0.32-loaded.txt").read_text()
SGLANG = (FIXTURES / "sglang-0.5.23-loaded.txt").read_text()
ROUTER = (FIXTURES / "sglang-router-0.3.2-loaded.txt").read_text()
AGENT = "heteroscale-agent"


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"coordinator": "127.0.0.1:1", **fields})


def case(**fields: Any) -> Case:
    return Case(spec(**fields), deadline=10.0)


def levels(found: Any) -> dict[str, Level]:
    return {finding.check: finding.level for finding in found}


def only(found: Any) -> Finding:
    (finding,) = found
    assert isinstance(finding, Finding)
    return finding


def document(folder: Path, body: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(f"apiVersion: heteroscale/v1\nkind: Agent\nspec:\n{body}")
    return path


# ---- side by side ------------------------------------------------------------------------------


def test_a_look_that_hangs_or_fails_takes_nothing_from_the_others() -> None:
    never = threading.Event()

    def hanging(_: Case) -> Iterator[Finding]:
        yield ok("first", "seen before the hang")
        never.wait()

    def failing(_: Case) -> Iterator[Finding]:
        yield from ()
        raise RuntimeError("driver said\x1b[2J nonsense")

    def closed(_: Case) -> Iterator[Finding]:
        yield from ()
        raise PermissionError(13, "Permission denied", "/closed/x")

    looks = [
        Look("a", "hanging", hanging),
        Look("b", "failing", failing),
        Look("b", "closed", closed),
        Look("c", "good", lambda _: iter([ok("good", "yes")])),
    ]
    found = checkup.run(looks, Case(spec(), deadline=0.2))
    never.set()
    assert [(subject, finding.check, finding.level) for subject, finding in found] == [
        ("a", "first", Level.OK),
        ("a", "hanging", Level.PROBLEM),
        ("b", "failing", Level.PROBLEM),
        ("b", "closed", Level.PROBLEM),
        ("c", "good", Level.OK),
    ]
    assert "no answer within 0.2 s" in found[1][1].saw
    assert "\x1b" not in found[2][1].saw
    assert found[3][1].saw == "/closed/x is closed to us"


# ---- how it is shown ---------------------------------------------------------------------------

REPORT = Report(
    "0.1.0",
    "gpu-1",
    "/etc/heteroscale/agent.yaml",
    [
        ("host", ok("kernel", "Linux 6.8")),
        ("RDMA", note("mlx5_0/1", "not active", "cable it")),
        ("RDMA", problem("device files", "may not open uverbs0", "chmod")),
    ],
)


def test_the_text_is_aligned_and_says_what_to_do() -> None:
    assert as_text(REPORT, colour=False, width=80).splitlines() == [
        "heteroscale 0.1.0 on gpu-1, /etc/heteroscale/agent.yaml",
        "",
        "host",
        "  ok       kernel        Linux 6.8",
        "",
        "RDMA",
        "  note     mlx5_0/1      not active",
        "                         → cable it",
        "  problem  device files  may not open uverbs0",
        "                         → chmod",
        "",
        "1 problem, 1 note, 1 ok",
    ]
    assert "\x1b[1;31mproblem\x1b[0m" in as_text(REPORT, colour=True, width=80)


def test_the_json_keeps_its_form() -> None:
    told = json.loads(as_json(REPORT))
    assert list(told) == ["format", "heteroscale", "host", "document", "counts", "findings"]
    assert told["format"] == 1
    assert told["counts"] == {"ok": 1, "note": 1, "problem": 1}
    assert told["findings"][1] == {
        "subject": "RDMA",
        "check": "mlx5_0/1",
        "level": "note",
        "saw": "not active",
        "todo": "cable it",
    }


# ---- the program -------------------------------------------------------------------------------


def doctor(*words: str | Path, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "heteroscale_agent", "doctor", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environ or {})},
    )
    return done.returncode, done.stdout, done.stderr


def test_on_a_host_with_gpus(tmp_path: Path) -> None:
    library = nvml_stub.build(tmp_path)
    shown = nvml_stub.StubState(tmp_path / "gpus.txt", [nvml_stub.StubGpu(name="NVIDIA H20")] * 2)
    shown.write()
    config = document(
        tmp_path,
        f"  coordinator: 127.0.0.1:{free_port()}\n  stateDir: {tmp_path / 'state'}\n"
        f"  gpu: {{library: {library}}}\n"
        "  templates:\n"
        f"    small: {{role: decode, gpus: 2, command: [{sys.executable}]}}\n"
        f"    large: {{role: decode, gpus: 4, command: [{sys.executable}]}}\n",
    )
    status, said, error = doctor(
        "-c", config, "--json", environ={nvml_stub.STATE_VARIABLE: str(tmp_path / "gpus.txt")}
    )
    assert (status, error) == (1, "")
    found = {(f["subject"], f["check"]): f for f in json.loads(said)["findings"]}
    assert found["GPUs", "2 × H20"]["level"] in {"ok", "note"}
    assert found["GPUs", "template large"]["level"] == "problem"
    assert ("GPUs", "template small") not in found
    assert found["engines", "template small"]["level"] == "ok"
    assert found["coordinator", "port"]["level"] == "problem"
    assert not (tmp_path / "state").exists()


def test_for_a_person(tmp_path: Path) -> None:
    config = document(tmp_path, "  coordinator: 127.0.0.1:1\n  gpu: {source: none}\n")
    status, said, error = doctor("--timeout", "9s", "-c", config, environ={"NO_COLOR": "1"})
    assert (status, error) == (1, "")
    assert "problem  port" in said
    assert said.splitlines()[-1].startswith("1 problem, ")


def test_nothing_but_json_is_printed_where_json_is_asked_for(tmp_path: Path) -> None:
    config = document(
        tmp_path,
        "  coordinator: 127.0.0.1:1\n  gpu: {source: none}\n"
        f"  topologyFrom: [{{file: {tmp_path / 'none.yaml'}}}]\n",
    )
    status, said, error = doctor("-c", config, "--json")
    assert (status, error) == (1, "")
    assert any("none.yaml" in finding["check"] for finding in json.loads(said)["findings"])


def test_wrong_usage_and_wrong_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-c", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err
    for words in (["--timeout", "soon"], ["--timeout", "0"], ["--nonsense"]):
        with pytest.raises(SystemExit) as refused:
            run(words)
        assert refused.value.code == 2
    capsys.readouterr()
    wrong = document(tmp_path, "  coordinator: 127.0.0.1:1\n  gpu: {source: nvlm}\n")
    status, said, _ = doctor("-c", wrong, "--json")
    assert status == 1
    told = json.loads(said)["findings"]
    assert told[0]["level"] == "problem"
    assert "agent.yaml:5: spec.gpu.source" in told[0]["saw"]
    assert len(told) > 10


def test_the_manual_names_every_subject() -> None:
    page = (Path(__file__).parents[2] / "docs/install.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| `findings[].subject`")]
    subjects = {look.subject for look in (*_LOOKS, *_AFTER_ENGINES)}
    assert set(row.split("`")[3::2]) == {"document", *subjects}


# ---- host, topology ----------------------------------------------------------------------------


def test_a_container_is_known_by_its_marks_and_matters_for_templates(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cgroup").write_text("0::/kubepods/besteffort/pod1\n")
    watching = Case(spec(), proc=tmp_path, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert host.in_container(watching) == "Kubernetes"
    assert levels(host.look(watching))["container"] is Level.OK
    starting = Case(
        spec(templates={"a": {"role": "decode", "command": ["x"]}}),
        proc=tmp_path,
        environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    )
    assert levels(host.look(starting))["container"] is Level.NOTE


def test_topology_says_where_each_level_comes_from() -> None:
    one = Case(spec(topology={"s1": "pod-1"}), environ={"HETEROSCALE_TOPOLOGY": "s2=big"})
    assert levels(topology.look(one)) == {"s1": Level.OK, "s2": Level.OK}
    asked = Case(spec(topology_from=[{"file": "/nowhere/place"}]), environ={})
    found = levels(topology.look(asked))
    assert found == {"file /nowhere/place": Level.PROBLEM, "unknown levels": Level.NOTE}
    wrong = Case(spec(), environ={"HETEROSCALE_TOPOLOGY": "rack=4"})
    assert only(topology.look(wrong)).level is Level.PROBLEM
    assert only(topology.look(Case(spec(), environ={}))).level is Level.NOTE


# ---- templates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"command": ["/nowhere/vllm"]}, "/nowhere/vllm does not exist"),
        ({"command": ["no-such-program-here"]}, "not on PATH"),
        ({"command": ["sh"], "user": "nobody-of-that-name"}, "no user"),
        ({"command": ["sh"], "parameters": {"model": "[a-"}}, "is no pattern"),
        ({"command": ["sh", "{modle}"], "parameters": {"model": "a"}}, "{modle}"),
        ({"command": ["sh", "{bootstrap_port}"], "ports": 1}, "{bootstrap_port}"),
        ({"command": ["sh"], "env": {"X": "{port_3}"}}, "{port_3}"),
    ],
)
def test_a_template_that_cannot_work(template: dict[str, Any], says: str) -> None:
    found = only(templates.look(case(templates={"a": {"role": "decode", **template}})))
    assert found.level is Level.PROBLEM
    assert says in found.saw
    assert found.todo


def test_a_template_that_can_and_one_whose_model_is_not_there(tmp_path: Path) -> None:
    words = ["sh", "{port}", "{port_2}", "{model}", '{"json": 1}', f"--log={tmp_path}"]
    body = {"role": "decode", "command": words, "parameters": {"model": "[a-z]+"}}
    assert only(templates.look(case(templates={"a": body}))).level is Level.OK
    body["command"] = [*words, f"--model-path={tmp_path}/none"]
    found = only(templates.look(case(templates={"a": body})))
    assert (found.level, found.saw) == (Level.NOTE, f"{tmp_path}/none does not exist")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what others may not")
def test_a_program_that_its_user_may_not_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    body = {"role": "decode", "command": [str(program)], "user": "nobody"}
    assert "is closed to it" in only(templates.look(case(templates={"a": body}))).saw
    body["user"] = "root"
    assert only(templates.look(case(templates={"a": body}))).level is Level.OK


def test_hooks_and_ports(tmp_path: Path) -> None:
    hooks = {"balancer": {"open": ["sh"], "close": [str(tmp_path / "none")]}}
    found = levels(templates.look(case(hooks=hooks)))
    assert found["hook balancer"] is Level.PROBLEM
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        some = {"a": {"role": "decode", "command": ["sh"]}}
        narrow = case(templates=some, ports={"first": port, "last": port})
        assert only(templates.ports(narrow)).level is Level.PROBLEM
    assert list(templates.ports(case())) == []
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_local_port_range").write_text("1024\t65535\n")
    overlapping = Case(spec(templates=some), proc=tmp_path)
    assert [one.level for one in templates.ports(overlapping)] == [Level.OK, Level.NOTE]


# ---- engines -----------------------------------------------------------------------------------


async def engine_found(endpoint: str, kind: str = "vllm") -> list[Finding]:
    body = {"instanceId": "e", "service": "s", "role": "decode", "endpoint": endpoint}
    one = Case(spec(engines=[{**body, "engine": kind}]), deadline=2.0)
    found = await asyncio.to_thread(checkup.run, list(engines.looks(one)), one)
    return [finding for _, finding in found]


async def test_an_engine_that_is_what_it_is_said_to_be() -> None:
    async with metrics_server() as server:
        server.says(VLLM)
        (found,) = await engine_found(server.url.removesuffix("/metrics"))
        assert found.level in {Level.OK, Level.NOTE}
        assert found.saw.startswith("vllm")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(SGLANG), "shows metrics of sglang"),
        (answer("process_cpu_seconds_total 1\n"), "no vllm metric"),
        (answer("<html>", content_type="text/html"), "content type 'text/html'"),
        (answer("", status="404 Not Found"), "HTTP status 404"),
        (hangs, "no whole answer"),
    ],
)
async def test_an_engine_that_is_not(reply: Any, says: str) -> None:
    async with metrics_server() as server:
        server.reply = reply
        found = await engine_found(server.url.removesuffix("/metrics"))
        assert (found[0].level, says in found[0].saw) == (Level.PROBLEM, True), found


async def test_an_engine_that_is_not_there() -> None:
    (found,) = await engine_found(f"http://127.0.0.1:{free_port()}")
    assert found.level is Level.PROBLEM


async def test_a_model_that_the_engine_does_not_serve_is_noticed() -> None:
    async with metrics_server() as server:
        server.says(VLLM)
        body = {"instanceId": "e", "service": "s", "role": "decode", "modelName": "no-such"}
        body["endpoint"] = server.url.removesuffix("/metrics")
        one = Case(spec(engines=[body]), deadline=5.0)
        found = await asyncio.to_thread(checkup.run, list(engines.looks(one)), one)
    assert (found[0][1].level, found[0][1].todo) == (Level.NOTE, "mend `modelName`")


def test_what_is_experimental_is_said() -> None:
    body = {"role": "decode", "command": ["sh"], "engine": "tgi"}
    assert "template a" in only(engines.unproven(case(templates={"a": body}))).saw
    assert list(engines.unproven(case())) == []


# ---- gates and routers of the document ---------------------------------------------------------


def test_gates_that_can_and_that_cannot_work(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    good = {
        "upstreams": {"n": {"path": str(tmp_path / "servers.conf"), "reload": ["true"]}},
        "http": {"h": http_hook({"file": str(secret)})},
    }
    secret.write_text("x")
    assert set(levels(gates.look(case(gates=good))).values()) == {Level.OK}
    secret.unlink()
    bad = {
        "upstreams": {"n": {"path": "/nowhere/servers.conf", "reload": ["no-such-program"]}},
        "haproxy": {"p": {"sockets": [str(tmp_path / "none.sock")], "backend": "b"}},
        "http": {"h": http_hook({"file": str(secret)}), "i": http_hook({"env": "NO_SUCH_TOKEN"})},
    }
    found = list(gates.look(case(gates=bad)))
    assert {one.level for one in found} == {Level.PROBLEM}
    assert [one.check for one in found] == ["upstream n", "haproxy p", "http h", "http i"]
    assert "no-such-program is not on PATH" in found[0].saw


def http_hook(secret: dict[str, str]) -> dict[str, Any]:
    call = {"url": "http://edge/", "secrets": {"Authorization": secret}}
    return {"open": call, "close": call}


def test_a_proxys_socket_is_dialled(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        proxy = {"p": {"sockets": [str(path)], "backend": "b"}}
        assert only(gates.look(case(gates={"haproxy": proxy}))).level is Level.OK


async def test_a_router_of_the_document_is_read() -> None:
    async with metrics_server() as server:
        listed = {"name": "r", "service": "s", "kind": "sglang-router"}
        listed["url"] = server.url.removesuffix("/metrics")
        one = Case(spec(routers=[listed]), deadline=5.0)
        server.says("nothing_of_a_router 1\n")
        assert only(await asyncio.to_thread(lambda: list(routers.watched(one)))).level is (
            Level.PROBLEM
        )
        server.says(ROUTER)
        found = only(await asyncio.to_thread(lambda: list(routers.watched(one))))
        assert found.level in {Level.OK, Level.NOTE}
        assert found.saw.startswith("sglang-router")


# ---- RDMA --------------------------------------------------------------------------------------


def test_rdma_ports_say_how_they_stand_and_how_far_they_are(tmp_path: Path) -> None:
    tree = RdmaHost.build(tmp_path / "host", pairs=2)
    for address in tree.gpu_addresses:
        (tree.pci / address / "vendor").write_text("0x10de\n")
        (tree.pci / address / "class").write_text("0x030200\n")
    wired = {"root": str(tree.infiniband), "pciRoot": str(tree.pci), "rails": {"mlx5_0": 3}}
    found = list(rdma.look(case(rdma=wired)))
    assert found[0] == ok("mlx5_0/1", "InfiniBand, 400 Gb/s, NUMA node 0, rail 3, active")
    assert ok("distance", "2 GPUs have their nearest port at PIX") in found
    tree.ports[0].down()
    near = rdma.look(case(rdma={**wired, "include": ["mlx5_0"]}))
    known = {(one.check, one.level, one.saw.partition(":")[0]) for one in near}
    assert ("distance", Level.NOTE, "1 GPUs have their nearest port at SYS") in known
    assert any(check == "mlx5_0/1" and "not active" in saw for check, _, saw in known)


def test_a_host_without_rdma_and_one_whose_ports_are_left_out(tmp_path: Path) -> None:
    assert only(rdma.look(case(rdma={"root": str(tmp_path / "none")}))).level is Level.NOTE
    assert "is empty" in only(rdma.look(case(rdma={"root": str(tmp_path)}))).saw
    RdmaPort(tmp_path / "infiniband").create()
    left_out = case(rdma={"root": str(tmp_path / "infiniband"), "exclude": ["*"]})
    assert "leave none" in only(rdma.look(left_out)).todo


# ---- state, routers, tags ----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_state_directory_says_who_holds_it_and_what_it_keeps(tmp_path: Path) -> None:
    one = case(stateDir=str(tmp_path / "state"))
    assert only(state.look(one)).level is Level.NOTE
    with StateDirectory(tmp_path / "state") as directory:
        directory.identify("host-1")
        journal = Journal(tmp_path / "state", wall=lambda: 0.0)
        journal.append([epoch_entry(7)])
        found = {finding.check: finding for finding in state.look(one)}
        journal.close()
        assert state.lock_holder(one, tmp_path / "state/lock") == os.getpid()
    assert f"pid {os.getpid()}" in found["stateDir"].saw
    assert found["journal"].saw.startswith("epoch 7, 0 live instances")
    assert found["sync"].level in {Level.OK, Level.NOTE}
    assert state.kept_id(tmp_path / "state") == "host-1"
    before = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert levels(state.look(one))["stateDir"] is Level.NOTE
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == before


def test_a_journal_of_a_later_release_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path, wall=lambda: 0.0)
    journal.append([{"k": "format", "format": 99, "release": "9.9"}])
    journal.close()
    found = {finding.check: finding for finding in state.look(case(stateDir=str(tmp_path)))}
    assert found["journal"].level is Level.PROBLEM
    assert "heteroscale 9.9 in format 99" in found["journal"].saw


async def test_routers_of_the_journal_are_asked(tmp_path: Path) -> None:
    async with metrics_server() as server:
        good, bad = server.url.removesuffix("/metrics"), f"http://127.0.0.1:{free_port()}"
        gate = Gate(kind="sglang-router", routers=(good, bad))
        launch = Launch(service="s", role=Role.DECODE, template="t", gpu_indices=(0,), gate=gate)
        record = Record("i-1", launch, InstanceState.IN_SERVICE, 0.0, 0.0, pid=os.getpid())
        journal = Journal(tmp_path, wall=lambda: 0.0)
        journal.append([instance_entry("i-1", dump_record(record))])
        journal.close()
        one = case(stateDir=str(tmp_path))
        found = levels(await asyncio.to_thread(lambda: list(routers.look(one))))
    assert found == {good: Level.OK, bad: Level.PROBLEM}
    assert only(permissions.engines(one)).level is Level.OK
    assert only(routers.look(case(stateDir=str(tmp_path / "none")))).level is Level.NOTE


# ---- permissions, service ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        ("000001ffffffffff", set()),
        ("0000000000000000", {"templates' users"}),
        ("00000000000000c0", {"CAP_SYS_PTRACE", "CAP_KILL"}),
    ],
)
def test_what_capabilities_allow(tmp_path: Path, held: str, wrong: set[str]) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"Name:\tx\nCapEff:\t{held}\n")
    some = {"a": {"role": "decode", "command": ["sh"], "user": "somebody-else"}}
    found = permissions.look(Case(spec(templates=some), proc=tmp_path))
    assert {one.check for one in found if one.level is Level.PROBLEM} == wrong


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["/opt/heteroscale/current/bin/python", "/x/heteroscale-agent", "run", "-c", "a"], True),
        (["python3", "-m", "heteroscale_agent", "-c", "a"], True),
        (["/usr/bin/python3", "/usr/bin/heteroscale", "agent", "run", "--config", "a"], True),
        (["/usr/bin/python3", "/usr/bin/heteroscale", "doctor", "-c", "a"], False),
        (["python3", "-m", "heteroscale_agent", "check", "-c", "a"], False),
        (["vim", "heteroscale-agent.yaml"], False),
        ([""], False),
    ],
)
def test_an_agent_is_known_by_its_command_line(words: list[str], wanted: bool) -> None:
    assert service.is_agent(words) is wanted


def test_fork_support_in_the_environment_is_a_problem() -> None:
    bad = Case(spec(stateDir="/nowhere"), environ={"GRPC_ENABLE_FORK_SUPPORT": "1"})
    assert only(service.environment(bad)).level is Level.PROBLEM
    good = Case(spec(stateDir="/nowhere"), environ={})
    assert only(service.environment(good)).level is Level.OK


# ---- the coordinator ---------------------------------------------------------------------------


@asynccontextmanager
async def healthy(
    credentials: grpc.ServerCredentials | None = None, says: bytes = b"\x08\x01"
) -> AsyncIterator[int]:
    """Run a server that knows nothing but health."""

    async def check(_: bytes, __: Any) -> bytes:
        return says

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    address = "127.0.0.1:0"
    port = (
        server.add_secure_port(address, credentials)
        if credentials
        else server.add_insecure_port(address)
    )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def reach(**fields: Any) -> dict[str, Finding]:
    one = case(**fields)
    found = await asyncio.to_thread(lambda: list(coordinator.look(one)))
    return {finding.check: finding for finding in found}


async def test_a_coordinator_on_loopback() -> None:
    async with healthy() as port:
        found = await reach(coordinator=f"127.0.0.1:{port}")
        assert {one.level for one in found.values()} == {Level.OK}
        assert list(found) == ["trust", "name", "port", "health"]
    async with healthy(says=b"\x08\x02") as port:
        assert (await reach(coordinator=f"127.0.0.1:{port}"))["health"].level is Level.PROBLEM


async def test_each_step_that_fails_is_the_last() -> None:
    found = await reach(coordinator="name.invalid:7070", insecure=True)
    assert (list(found), found["name"].level) == (["trust", "name"], Level.PROBLEM)
    found = await reach(coordinator=f"127.0.0.1:{free_port()}")
    assert (list(found), found["port"].level) == (["trust", "name", "port"], Level.PROBLEM)
    found = await reach(coordinator="127.0.0.1")
    assert found["address"].level is Level.PROBLEM
    found = await reach(coordinator="10.0.0.1:7070")
    assert "without TLS" in found["trust"].saw


class Papers:
    """An authority, a server's certificate, and one for an agent."""

    def __init__(self, folder: Path, **agent: Any) -> None:
        self.ca = trustme.CA()
        self.server = self.ca.issue_cert("127.0.0.1")
        own = self.ca.issue_cert("agent.example", **agent)
        self.tls = {name: str(folder / f"{name}.pem") for name in ("ca", "certificate", "key")}
        self.ca.cert_pem.write_to_path(self.tls["ca"])
        own.cert_chain_pems[0].write_to_path(self.tls["certificate"])
        own.private_key_pem.write_to_path(self.tls["key"])

    def credentials(self) -> grpc.ServerCredentials:
        chain = b"".join(pem.bytes() for pem in self.server.cert_chain_pems)
        pair = (self.server.private_key_pem.bytes(), chain)
        root = self.ca.cert_pem.bytes()
        return grpc.ssl_server_credentials([pair], root, require_client_auth=True)


async def test_mutual_tls_end_to_end(tmp_path: Path) -> None:
    papers = Papers(tmp_path, common_name="host-*", organization_unit_name=AGENT)
    async with healthy(papers.credentials()) as port:
        fields = {"coordinator": f"127.0.0.1:{port}", "tls": papers.tls, "agentId": "host-7"}
        found = await reach(**fields)
        assert {one.level for one in found.values()} == {Level.OK}, found
        assert "good for" in found["certificate"].saw
        assert {one.level for one in coordinator.identity(case(**fields))} == {Level.OK}
        stranger = tmp_path / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(stranger)
        found = await reach(**{**fields, "tls": {**papers.tls, "ca": str(stranger)}})
        assert found["certificate"].level is Level.PROBLEM
        assert "certificate" in found["certificate"].saw
        wrong = {**papers.tls, "serverName": "other.example"}
        found = await reach(**{**fields, "tls": wrong})
        assert found["certificate"].level is Level.PROBLEM


@pytest.mark.parametrize(
    ("agent", "check", "says"),
    [
        ({"organization_unit_name": "heteroscale-operator"}, "own role", "heteroscale-operator"),
        ({"organization_unit_name": AGENT, "common_name": "other"}, "own name", "does not cover"),
        (
            {"not_after": datetime.now(UTC) - timedelta(days=1)},
            "own certificate",
            "expired",
        ),
    ],
)
def test_a_certificate_that_will_not_be_believed(
    tmp_path: Path, agent: dict[str, Any], check: str, says: str
) -> None:
    papers = Papers(tmp_path, **agent)
    found = certificates.own(Path(papers.tls["certificate"]), Path(papers.tls["key"]), "host-7")
    wrong = {one.check: one for one in found if one.level is Level.PROBLEM}
    assert says in wrong[check].saw


def test_a_certificate_that_soon_ends_and_a_key_of_another(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    papers = Papers(tmp_path, organization_unit_name=AGENT, common_name="h", not_after=soon)
    pair = Path(papers.tls["certificate"]), Path(papers.tls["key"])
    assert levels(certificates.own(*pair, "h"))["own certificate"] is Level.NOTE
    papers.server.private_key_pem.write_to_path(papers.tls["key"])
    assert levels(certificates.own(*pair, "h")) == {"own certificate": Level.PROBLEM}
