"""Nodes: GPUs, domains and where they were read, taints, why nothing may start, notes."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.nodes import SeenNode, seen_node, with_holdings
from heteroscale_scheduler_adapters.port import Holding, Taint
from tests.scheduler_adapters.kubernetes.things import Thing, node, settings


def seen(thing: Thing, **options: Any) -> SeenNode:
    return seen_node(thing, settings(**options))


def test_a_node_has_its_gpus_and_its_address() -> None:
    told = with_holdings(seen(node(gpus=2)), ())
    assert [(gpu.index, gpu.type, gpu.vendor) for gpu in told.gpus] == [
        (0, "H20", "nvidia"),
        (1, "H20", "nvidia"),
    ]
    assert (told.name, told.address, told.closed) == ("n1", "10.0.0.1", "")
    assert told.labels["kubernetes.io/hostname"] == "n1"


def test_other_resources_are_gpus_where_the_options_say_so() -> None:
    amd = node(product="", allocatable={"amd.com/gpu": "4", "example.com/npu": 2})
    assert with_holdings(seen(amd), ()).gpus[3].vendor == "amd"
    told = seen(amd, gpus={"resources": {"example.com/npu": "example"}})
    assert (told.gpus, told.vendor) == (2, "example")


def test_what_is_held_is_there_also_while_a_kubelet_starts() -> None:
    starting = seen(node(gpus=0))
    held = (Holding("pod/llm/a", 3),)
    assert len(with_holdings(starting, held).gpus) == 3
    assert starting.known
    assert "no device plugin" in starting.node.closed


def test_a_node_without_gpus_and_without_their_label_is_none_of_ours() -> None:
    assert not seen(node(gpus=0, product="")).known


@pytest.mark.parametrize(
    ("labels", "level", "name"),
    [
        ({"network.topology.nvidia.com/accelerator": "nvl-1"}, "s0", "nvl-1"),
        ({"network.topology.nvidia.com/block": "b1"}, "s1", "b1"),
        ({"network.topology.nvidia.com/spine": "sp1"}, "s2", "sp1"),
        ({"network.topology.nvidia.com/datacenter": "dc1"}, "logical_cluster", "dc1"),
        ({"cloud.provider.com/topology-rack": "r1"}, "s1", "r1"),
        ({"cloud.provider.com/topology-block": "kb1"}, "s2", "kb1"),
        ({"topology.kubernetes.io/zone": "z1"}, "logical_cluster", "z1"),
        ({"topology.kubernetes.io/region": "eu"}, "vdc", "eu"),
    ],
)
def test_domains_are_read_from_the_usual_labels(
    labels: dict[str, str], level: str, name: str
) -> None:
    told = seen(node(labels=labels)).node
    assert told.topology == {level: name}
    assert told.topology_sources == {level: f"label {next(iter(labels))}"}


def test_the_first_label_of_a_level_wins_and_own_keys_replace_the_usual() -> None:
    labels = {"example.com/rack": "r7", "network.topology.nvidia.com/block": "b1"}
    labels |= {"cloud.provider.com/topology-rack": "r1", "example.com/empty": ""}
    assert seen(node(labels=labels)).node.topology == {"s1": "b1"}
    own = {"s1": ["example.com/empty", "example.com/rack"]}
    assert seen(node(labels=labels), topology=own).node.topology == {"s1": "r7"}


def test_taints_are_told_without_those_that_follow_conditions_and_of_gpus() -> None:
    taints = [
        {"key": "dedicated", "value": "research", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ]
    told = seen(node(spec={"taints": taints})).node
    assert told.taints == (Taint("dedicated", "research", "NoSchedule"),)


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (node(spec={"unschedulable": True}), "cordoned"),
        (node(ready="Unknown"), "not ready"),
        (node(ready="False"), "not ready"),
        (node(conditions=[{"type": "DiskPressure", "status": "True"}]), "short of disk space"),
        (node(conditions=[{"type": "DiskPressure", "status": "False"}]), ""),
        (node(spec={"unschedulable": True}, ready="False"), "cordoned; not ready"),
    ],
)
def test_a_closed_node_says_why(thing: Thing, why: str) -> None:
    assert seen(thing).node.closed == why


def test_why_a_node_is_not_ready_is_told_in_its_own_words() -> None:
    thing = node(ready="False")
    thing["status"]["conditions"][0]["message"] = "container runtime is down"
    thing["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    assert seen(thing).node.closed == "being deleted; not ready: container runtime is down"


def test_notes_tell_of_slices_of_sick_gpus_of_shares_and_of_no_type() -> None:
    mig = node(allocatable={"nvidia.com/mig-1g.10gb": "7"}, product="")
    assert seen(mig).notes == (
        "node n1: slices of GPUs (MIG) are not used: 7 of nvidia.com/mig-1g.10gb",
    )
    sick = node(gpus=7, capacity={"nvidia.com/gpu": "8"})
    assert seen(sick).notes == ("node n1: 1 of 8 GPUs are not healthy (nvidia.com/gpu)",)
    shares = node(product="Tesla-T4-SHARED")
    assert "time-slicing" in seen(shares).notes[0]
    assert "no label tells the type of its 8 GPUs" in seen(node(product="")).notes[0]
    assert seen(node()).notes == ()
