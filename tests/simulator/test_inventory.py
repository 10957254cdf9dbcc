"""Made-up inventories: what was asked for is there, the same for the same seed, and read back."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from heteroscale.documents import DocumentError
from heteroscale.taints import parse_taint
from heteroscale_coordinator.core.topology import SubgroupClass, Tree
from heteroscale_simulator.fleet import Host, hosts, load_fleet, parse_fleet, views
from heteroscale_simulator.inventory import Kind, Wish, WishError, build, fleet_text
from heteroscale_simulator.inventory.command import execute
from heteroscale_simulator.inventory.figures import figures
from heteroscale_simulator.world.agents import inventory

KINDS = (Kind("H20", 300), Kind("H100", 150), Kind("A10", 40, 4))


def made(wish: Wish) -> tuple[Host, ...]:
    return hosts(parse_fleet(fleet_text(build(wish), "a test")).spec)


@pytest.mark.parametrize("seed", range(4))
def test_every_node_stands_somewhere_and_no_switch_is_overfull(seed: int) -> None:
    there = made(Wish(KINDS, ports=6, s1_per_s2=5, mixed_s1=0.1, mixed_s2=0.4, seed=seed))
    assert Counter((host.gpu_type, host.gpus) for host in there) == {
        ("H20", 8): 300,
        ("H100", 8): 150,
        ("A10", 4): 40,
    }
    assert len({host.name for host in there}) == 490
    s1s = Counter((host.topology["s2"], host.topology["s1"]) for host in there)
    assert max(s1s.values()) <= 6
    assert max(Counter(s2 for s2, _ in s1s).values()) <= 5


@pytest.mark.parametrize("seed", range(4))
def test_the_shares_of_the_classes_are_those_asked_for(seed: int) -> None:
    wish = Wish(KINDS, ports=6, s1_per_s2=5, mixed_s1=0.1, mixed_s2=0.4, empty_ports=0, seed=seed)
    there = made(wish)
    found = figures(there)
    s1s = sum(found.s1_by_class.values())
    assert found.s1_by_class["high"] / s1s == pytest.approx(0.1, abs=0.03)
    tree = Tree(views(there, ()))
    mixed = {h.topology["s2"] for h in there if tree.class_of(h.name) is not SubgroupClass.LOW}
    assert len(mixed) / found.domains["s2"] == pytest.approx(0.4, abs=0.08)


def test_levels_above_are_told_and_as_wide_as_asked() -> None:
    wish = Wish(KINDS, ports=4, s1_per_s2=4, s2_per_cluster=3, clusters_per_site=2, sites_per_vdc=2)
    there = made(wish)
    above: dict[str, set[str]] = {}
    pairs = [("s2", "logical_cluster"), ("logical_cluster", "physical_cluster")]
    for host in there:
        for low, high in [*pairs, ("physical_cluster", "vdc")]:
            above.setdefault(f"{high} {host.topology[high]}", set()).add(host.topology[low])
    widest = {
        level: max(len(names) for key, names in above.items() if key.startswith(level))
        for level in ("logical_cluster", "physical_cluster", "vdc")
    }
    assert widest == {"logical_cluster": 3, "physical_cluster": 2, "vdc": 2}


def test_faults_are_as_many_as_asked_and_keep_instances_away() -> None:
    there = made(Wish(KINDS, down=0.1, broken_gpus=0.05, links_down=0.02, seed=5))
    assert sum(host.fault == "down" for host in there) == pytest.approx(49, abs=20)
    linkless = [host for host in there if host.fault.startswith("no link")]
    assert len(linkless) == pytest.approx(0.9 * 490 * 0.15, abs=30)
    broken = [host for host in there if host.broken and not host.fault]
    for view in views([*linkless, *broken], ["t"]):
        assert view.usable != bool(view.why_not)
        assert view.closed.keys() == set(view.gpu_types) - set(view.free)
    for host in broken:
        assert not host.broken & set(host.sound)
        assert len(host.sound) == host.gpus - len(host.broken)
    assert all(host.sound == () for host in linkless)


def test_one_type_has_no_mixed_domains_and_sound_fleets_no_faults() -> None:
    there = made(Wish((Kind("H20", 50),), down=0, broken_gpus=0, links_down=0))
    assert figures(there).s1_by_class.keys() == {"low"}
    assert all(len(host.sound) == 8 for host in there)


def test_nodes_lie_in_neighbourhoods_where_they_are_told() -> None:
    wish = Wish((Kind("H20", 2), Kind("A10", 1, 1)), numa_nodes=2, nvlink={"H20": 4})
    h20, _, a10 = made(wish)
    assert h20.neighbourhoods == {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1, 7: 1}
    assert h20.links == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3}
    assert not a10.neighbourhoods, "one GPU lies in no two NUMA nodes"
    assert not a10.links
    (view,) = views([h20], ["t"])
    assert (view.neighbourhoods, view.links) == (h20.neighbourhoods, h20.links)
    assert not made(Wish((Kind("H20", 1),), numa_nodes=0))[0].neighbourhoods


@pytest.mark.parametrize("field", ["numaNodes", "nvlinkGroups"])
def test_neighbourhoods_divide_the_gpus_of_a_node(field: str) -> None:
    text = fleet_text(build(Wish((Kind("H20", 1),), numa_nodes=0)), "a test")
    with pytest.raises(DocumentError, match=f"{field} 3 do not divide the 8 GPUs"):
        parse_fleet(text.replace("gpusPerNode: 8", f"gpusPerNode: 8\n      {field}: 3"))


def test_taints_of_a_pool_are_its_nodes_and_what_is_none_is_refused() -> None:
    text = fleet_text(build(Wish((Kind("H20", 1),))), "a test")
    taint = "gpusPerNode: 8\n      taints: [dedicated=train:NoSchedule]"
    (host,) = hosts(parse_fleet(text.replace("gpusPerNode: 8", taint)).spec)
    assert host.taints == (parse_taint("dedicated=train:NoSchedule"),)
    assert inventory(host, ()).taints == host.taints
    assert [gpu.numa_node for gpu in inventory(host, ()).gpus] == [0, 0, 0, 0, 1, 1, 1, 1]
    with pytest.raises(DocumentError, match="is no taint"):
        parse_fleet(text.replace("gpusPerNode: 8", taint.replace(":NoSchedule", "")))


def test_the_same_seed_gives_the_same_text_and_another_one_another() -> None:
    texts = [fleet_text(build(Wish(KINDS, seed=seed)), "x") for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


WRONG = [
    ({"kinds": ()}, "--nodes: no nodes"),
    ({"kinds": (Kind("H20", 10**9),)}, "--nodes: 1000000000 of them, at most 200000 wanted"),
    ({"kinds": (Kind("H20", 0),)}, "at least 1 node"),
    ({"kinds": (Kind("H20", 2), Kind("h20", 3))}, "named twice"),
    ({"kinds": (Kind("+", 2),)}, "letters or digits"),
    ({"ports": 0}, "--ports: at least 1"),
    ({"mixed_s1": 1.5}, "--mixed-s1: a share"),
    ({"empty_ports": 1.0}, "--empty-ports"),
    ({"mixed_s1": 0.5, "mixed_s2": 0.1}, r"write --mixed-s2 0\.34"),
    ({"ports": 1, "mixed_s1": 0.1}, "one port"),
    ({"prices": {"L20": 1.0}}, "--price L20"),
    ({"nvlink": {"L20": 1}}, "--nvlink L20"),
    ({"nvlink": {"A10": 3}}, "--nvlink A10=3: a number wanted that divides its 4 GPUs"),
    ({"numa_nodes": -1}, "--numa-nodes: 0 or more"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_what_contradicts_itself_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(WishError, match=words):
        Wish(**{"kinds": KINDS, **changes})  # type: ignore[arg-type]


def command(*words: str) -> tuple[int, str, str]:
    out, told = io.StringIO(), io.StringIO()
    return execute(["generate", *words], out, told), out.getvalue(), told.getvalue()


def test_the_command_writes_a_fleet_and_says_what_it_came_to(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    words = ["--nodes", "H20=30,A10=10x4", "--price", "H20=1.4", "--name", "east", "-o", str(file)]
    words += ["--nvlink", "H20=1,A10=4", "--numa-nodes", "4"]
    code, out, _ = command(*words)
    assert code == 0
    assert "40 nodes: 240 H20, 40 A10" in out
    fleet = load_fleet(file)
    assert fleet.name == "east"
    assert fleet.spec.gpu_types == {"H20": 240, "A10": 40}
    assert fleet.prices()["H20"] == 1.4
    first = file.read_text().splitlines()[0]
    assert first.startswith("# Made by: heteroscale fleet generate --nodes H20=30,A10=10x4")
    again = command(*first.split()[6:])[1]
    assert again == file.read_text(), "the first line makes it again"
    code, out, _ = command(*words, "--json")
    assert (code, json.loads(out)["nodes"]) == (0, 40)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "H20"], "TYPE=NODES"),
        (["--nodes", "H20=4", "--price", "H20=x"], "TYPE=PRICE"),
        (["--nodes", "H20=4", "--nvlink", "H20"], "TYPE=GROUPS"),
        (["--nodes", "H20=4", "--json"], "--output FILE"),
        (["--nodes", "H20=4", "-o", "/no/such/place/f.yaml"], "there is no folder"),
    ],
)
def test_a_wrong_line_is_refused_in_one_sentence(words: list[str], said: str) -> None:
    code, out, told = command(*words)
    assert (code, out) == (2, "")
    assert said in told
