"""The fleet document: what it means, and what is wrong with it in words that help."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from heteroscale.documents import DocumentError, read_documents
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_simulator.fleet import (
    FleetTooSmallError,
    StartupSpec,
    check_room,
    hosts,
    load_fleet,
    parse_fleet,
)
from heteroscale_simulator.profiles.transfer import DEFAULT_TRANSFER

EXAMPLES = Path(__file__).parents[2] / "examples"
MIXED = """
apiVersion: heteroscale/v1
kind: Fleet
metadata: {name: mixed}
spec:
  pools:
    - name: h20
      nodes: 5
      gpuType: H20
      pricePerGpuHour: 1.5
      topology: {name: hall, nodesPerS1: 2, s1PerS2: 2}
    - name: h100
      nodes: 2
      gpuType: H100
      gpusPerNode: 4
      topology: {name: hall, nodesPerS1: 1, s1PerS2: 2}
"""


def spec(**roles: str) -> ServiceSpec:
    text = "apiVersion: heteroscale/v1\nkind: Service\nmetadata: {name: s}\nspec:\n  roles:\n"
    text += "".join(f"    {role}: {{template: t, {more}}}\n" for role, more in roles.items())
    return read_documents(text)[0].parse(ServiceDocument).spec


def test_pools_of_one_topology_name_share_their_domains() -> None:
    found = hosts(parse_fleet(MIXED).spec)
    names = " ".join(host.name for host in found)
    assert names == "h20-1 h20-2 h20-3 h20-4 h20-5 h100-1 h100-2"
    by_s1: dict[str, Counter[str]] = {}
    for host in found:
        by_s1.setdefault(host.topology["s1"], Counter())[host.gpu_type] += 1
        assert host.topology["s0"] == host.name
    assert by_s1 == {
        "hall-s1-1": {"H20": 2, "H100": 1},
        "hall-s1-2": {"H20": 2, "H100": 1},
        "hall-s1-3": {"H20": 1},
    }
    assert [host.topology["s2"] for host in found[3:5]] == ["hall-s2-1", "hall-s2-2"]
    assert {host.gpus for host in found if host.gpu_type == "H100"} == {4}


def test_places_name_domains_node_by_node() -> None:
    places = "topology: {places: [{nodes: 3, s1: a, s2: x}, {nodes: 2, s1: b, s2: y}]}"
    text = MIXED.replace("topology: {name: hall, nodesPerS1: 2, s1PerS2: 2}", places)
    found = hosts(parse_fleet(text).spec)[:5]
    assert [host.topology["s1"] for host in found] == ["a", "a", "a", "b", "b"]
    assert found[4].topology["logical_cluster"] == "cluster-1"


WRONG = {
    "unknown field": ("gpuType: H20", "gpuTyp: H20", "9", "did you mean `gpuType`?"),
    "places": (
        "topology: {name: hall, nodesPerS1: 2, s1PerS2: 2}",
        "topology: {places: [{nodes: 4, s1: a, s2: x}]}",
        "7",
        "places hold 4 nodes, the pool has 5",
    ),
    "two trees": ("nodesPerS1: 1, s1PerS2: 2", "nodesPerS1: 1", "5", "write the same"),
    "twice": ("name: h100", "name: h20", "5", "pools named alike: h20"),
    "no node": ("nodes: 5", "nodes: 0", "8", "greater than 0"),
    "start-up": (
        "metadata: {name: mixed}\nspec:",
        "metadata: {name: mixed}\nspec:\n  startup: {median: 60s, p90: 30s}",
        "6",
        "p90 30s is below the median 60s",
    ),
    "start-up of no type": (
        "metadata: {name: mixed}\nspec:",
        "metadata: {name: mixed}\nspec:\n  startupByGpu: {A100: {median: 60s}}",
        "5",
        "startupByGpu names A100, the pools have H100, H20",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_line_and_help(case: str) -> None:
    before, after, line, words = WRONG[case]
    assert before in MIXED
    with pytest.raises(DocumentError) as caught:
        parse_fleet(MIXED.replace(before, after, 1), "f.yaml")
    assert f"f.yaml:{line}" in str(caught.value)
    assert words in str(caught.value)


def test_prices_are_the_pools_else_the_catalogues() -> None:
    fleet = parse_fleet(MIXED)
    assert fleet.prices() == {"H20": 1.5, "H100": 2.8}
    strange = parse_fleet(MIXED.replace("gpuType: H100", "gpuType: Abacus"))
    with pytest.raises(ValueError, match="Abacus has no price"):
        strange.prices()
    two = MIXED.replace("gpuType: H100", "gpuType: H20\n      pricePerGpuHour: 2")
    with pytest.raises(DocumentError, match="pools of H20 have several prices"):
        parse_fleet(two)


def test_start_ups_have_the_median_and_the_p90_that_were_written() -> None:
    drawn = StartupSpec(median=60, p90=120)
    values = [drawn.seconds(z) for z in np.random.default_rng(1).standard_normal(20_000)]
    assert np.median(values) == pytest.approx(60, rel=0.03)
    assert np.quantile(values, 0.9) == pytest.approx(120, rel=0.03)
    assert StartupSpec(median=0).seconds(3.0) == 0
    assert StartupSpec(median=60).seconds(3.0) == StartupSpec(median=60, p90=60).seconds(-3.0) == 60


def test_links_that_are_given_replace_the_profiles() -> None:
    text = MIXED + "  network: {s1: {gigabytesPerSecond: 12}}\n"
    links = parse_fleet(text).spec.network.over(DEFAULT_TRANSFER)
    assert links.s1.gigabytes_per_second == 12
    assert links.s2 == DEFAULT_TRANSFER.s2


def test_profiles_lie_beside_the_fleets_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(MIXED + "  profiles: tables\n")
    assert load_fleet(path).profiles == tmp_path / "tables"
    assert parse_fleet(MIXED).profiles is None


TOO_SMALL = [
    ({"prefill": "gpuTypes: [H20]", "decode": "gpuTypes: [H20]"}, (30, 11), "H20: 41 GPUs wanted"),
    ({"prefill": "gpuTypes: [L20]", "decode": "gpuTypes: [H20]"}, (1, 1), "wants L20"),
    ({"prefill": "gpuTypes: [H100], gpus: 8", "decode": ""}, (1, 1), "8 H100 GPUs on one node"),
    ({"prefill": "", "decode": "gpuTypes: [H100], ranks: 3"}, (1, 1), "3 nodes of one type"),
    ({"prefill": "gpuTypes: [H100]", "decode": ""}, (8, 41), "49 GPUs wanted"),
]


@pytest.mark.parametrize(("roles", "counts", "words"), TOO_SMALL)
def test_a_fleet_too_small_is_refused_by_type(
    roles: dict[str, str], counts: tuple[int, int], words: str
) -> None:
    wanted = {Role.PREFILL: counts[0], Role.DECODE: counts[1]}
    with pytest.raises(FleetTooSmallError, match=words):
        check_room({"s": (spec(**roles), wanted)}, hosts(parse_fleet(MIXED).spec))


def test_what_just_fits_is_not_refused() -> None:
    service = spec(prefill="gpuTypes: [H100]", decode="")
    wanted = {Role.PREFILL: 8, Role.DECODE: 40}
    check_room({"s": (service, wanted)}, hosts(parse_fleet(MIXED).spec))


@pytest.mark.parametrize(("name", "nodes"), [("small", 4), ("64", 64), ("1000", 1000)])
def test_examples_hold_what_their_names_say(name: str, nodes: int) -> None:
    fleet = load_fleet(EXAMPLES / f"fleet-{name}.yaml")
    found = hosts(fleet.spec)
    assert len(found) == len({host.name for host in found}) == nodes
    assert fleet.prices().keys() == {host.gpu_type for host in found}
    (document,) = read_documents((EXAMPLES / f"service-{name}.yaml").read_text())
    service = document.parse(ServiceDocument).spec
    most = {role: asked.min for role, asked in service.roles.items()}
    check_room({name: (service, most)}, found)
    assert service.model is not None


FAULTY = """
  clusters: {hall-cluster-1: {physicalCluster: north, vdc: v1}}
  faults:
    - {host: h20-1, down: true}
    - {host: h20-2, gpus: [0, 7]}
    - {host: h100-2, links: [3]}
"""


def test_faults_take_gpus_away_and_clusters_say_what_is_above() -> None:
    found = {host.name: host for host in hosts(parse_fleet(MIXED + FAULTY).spec)}
    assert [found[name].fault for name in ("h20-1", "h20-2", "h100-2")] == [
        "down",
        "",
        "no link at port 3",
    ]
    assert found["h20-2"].sound == (1, 2, 3, 4, 5, 6)
    assert found["h20-1"].sound == found["h100-2"].sound == ()
    assert found["h20-1"].topology["physical_cluster"] == "north"
    assert found["h20-1"].topology["vdc"] == "v1"
    wanted = {Role.PREFILL: 5, Role.DECODE: 30}
    service = spec(prefill="gpuTypes: [H100]", decode="gpuTypes: [H20]")
    with pytest.raises(FleetTooSmallError, match=r"H100: 5 GPUs wanted .*, 4 there"):
        check_room({"s": (service, wanted)}, tuple(found.values()))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("h20-1,", "h20-9,", "faults name h20-9, no host of the pools"),
        ("h20-1,", "h20-2,", "faults name h20-2 twice"),
        ("[0, 7]", "[8]", "GPU 8 of h20-2, 0 to 7 are there"),
        ("down: true", "down: false", "nothing of h20-1 is at fault"),
        (
            "vdc: v1}",
            "vdc: v1}, hall-cluster-2: {physicalCluster: north}",
            "north is in another vdc",
        ),
    ],
)
def test_faults_that_cannot_be_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        parse_fleet(MIXED + FAULTY.replace(old, new))
