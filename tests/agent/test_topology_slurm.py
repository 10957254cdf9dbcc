"""Network domains from Slurm: a real cluster, and texts of other versions."""

from __future__ import annotations

import pytest

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.config.places import SlurmLevels
from heteroscale_agent.probes.source import SourceError
from heteroscale_agent.probes.topology import look
from heteroscale_agent.probes.topology.slurm import domains, node_name
from tests.slurm.cluster import slurm_cluster
from tests.slurm.files import four
from tests.slurm.host import WHY_NOT

TREE = """\
SwitchName=core Level=2 LinkSpeed=1 Nodes=gpu[01-99],login Switches=spine[1-2]
SwitchName=leaf3 Level=0 LinkSpeed=1 Nodes=gpu[01-18]
SwitchName=spine1 Level=1 LinkSpeed=1 Nodes=gpu[01-40] Switches=leaf[1-3]
SwitchName=leaf4 Level=0 LinkSpeed=1 Nodes=gpu[19-40]
"""
BLOCKS = """\
BlockName=b1 BlockIndex=0 Nodes=gpu[01-18]
BlockName=b2 BlockIndex=1 Nodes=gpu[19-36]
AggregatedBlock=b[1-2] BlockIndex=2 Nodes=gpu[01-36] BlockSize=36
"""


def test_the_leaf_is_s1_and_its_parent_s2() -> None:
    names, words = domains(TREE, "gpu07", SlurmLevels())
    assert names == {"s1": "leaf3", "s2": "spine1"}
    assert words["s1"] == "slurm switch leaf3 of node gpu07"


def test_levels_are_named_as_one_likes() -> None:
    names, _ = domains(TREE, "gpu20", SlurmLevels(switches=("s0", "s1", "s2")))
    assert names == {"s0": "leaf4", "s1": "spine1", "s2": "core"}


def test_blocks_from_the_smallest_upward() -> None:
    names, words = domains(BLOCKS, "gpu20", SlurmLevels())
    assert names == {"s0": "b2", "s1": "b[1-2]"}
    assert words["s0"] == "slurm block b2 of node gpu20"


@pytest.mark.parametrize("text", ["", TREE, "No topology information available", "Nodes=["])
def test_a_node_that_is_not_there(text: str) -> None:
    with pytest.raises(SourceError, match=r"slurm\.nodeName"):
        domains(text, "gpu7", SlurmLevels())


def test_the_nodes_name() -> None:
    assert node_name("n1", {"SLURMD_NODENAME": "n2"}) == "n1"
    assert node_name("", {"SLURMD_NODENAME": "n2"}) == "n2"
    assert "." not in node_name("", {})


@pytest.mark.process
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
async def test_a_real_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    async with slurm_cluster(four(), scheduler="builtin") as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environ["SLURM_CONF"])
        places = [await _look(node) for node in ("node1", "node3")]
        (unknown,) = (await look(_spec("node9"), {}, 60)).problems
        await cluster.stop_controller(kill=True)
        (down,) = (await look(_spec("node1"), {}, 60)).problems
    assert places == [{"s1": "leaf1", "s2": "spine"}, {"s1": "leaf2", "s2": "spine"}]
    assert "no switch or node named node9" in unknown
    assert "slurm" in down.lower()


def _spec(node: str) -> AgentSpec:
    document = {
        "coordinator": "127.0.0.1:1",
        "slurm": {"nodeName": node},
        "topologyFrom": [{"slurm": {}, "timeout": "20s"}],
    }
    return AgentSpec.model_validate(document)


async def _look(node: str) -> object:
    return (await look(_spec(node), {}, 60)).levels
