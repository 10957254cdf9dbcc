"""The doctor's word on a host: container, topology, RDMA, permissions, service."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_agent.doctor import host, permissions, rdma, service, topology
from heteroscale_agent.doctor.finding import Case, Level, ok
from heteroscale_workbench.rdma_tree import RdmaHost, RdmaPort
from tests.agent.doctor_cases import case, levels, only, spec


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
