"""plan: what new instances cost, by the prices of the fleet's file, of rules, and as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heteroscale.words import Role
from heteroscale_cli.app import app
from heteroscale_cli.placing import costs
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_coordinator.core.model import Rank
from heteroscale_coordinator.core.placement import Spot, SubCluster
from tests.cli.conftest import Typed
from tests.cli.fleets import CHAT, FLEET, fleet_file, live_node, node, service_file
from tests.cli.twin import OperatorTwin


def plan(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    return ("-f", service_file(tmp_path), "--fleet", fleet_file(tmp_path))


def rules_file(folder: Path, text: str) -> str:
    path = folder / "coordinator.yaml"
    path.write_text(f"apiVersion: heteroscale/v1\nkind: Coordinator\nspec: {text}\n")
    return str(path)


def test_without_prices_nothing_is_said_of_cost(files: tuple[str, ...]) -> None:
    result = plan(*files)
    assert "costs" not in result.stdout
    data = json.loads(plan(*files, "--json").stdout)
    assert data["cost_per_hour"] is None
    assert data["services"][0]["cost"] == {
        "per_hour": None,
        "gpus": [
            {"gpu_type": "H100", "gpus": 8, "price": None},
            {"gpu_type": "H20", "gpus": 24, "price": None},
        ],
    }


def test_prices_as_typed(files: tuple[str, ...]) -> None:
    words = (*files, "--price", "H20=2.5", "--price", "H100=10,L20=1")
    assert "  costs 140 an hour: 8 H100 × 10 + 24 H20 × 2.5" in plan(*words).stdout.splitlines()
    data = json.loads(plan(*words, "--json").stdout)
    assert data["cost_per_hour"] == 140.0
    assert [line["price"] for line in data["services"][0]["cost"]["gpus"]] == [10.0, 2.5]


def test_a_type_without_a_price_is_no_cheap_one(files: tuple[str, ...]) -> None:
    words = (*files, "--price", "H20=2.5")
    assert "  costs 24 H20 × 2.5 an hour, and H100, of which no price is known" in (
        plan(*words).stdout.splitlines()
    )
    assert json.loads(plan(*words, "--json").stdout)["cost_per_hour"] is None


def test_the_files_pools_its_rules_the_coordinators_and_the_typed_win_in_turn(
    tmp_path: Path,
) -> None:
    priced = FLEET.replace("gpuType: H20,", "gpuType: H20, pricePerGpuHour: 1,").replace(
        "gpuType: H100,", "gpuType: H100, pricePerGpuHour: 1,"
    )
    service = service_file(tmp_path)

    def costs_of(fleet: str, *more: str) -> float:
        words = ("-f", service, "--fleet", fleet_file(tmp_path, fleet), *more, "--json")
        return float(json.loads(plan(*words).stdout)["cost_per_hour"])

    assert costs_of(priced) == 8 + 24
    ruled = priced + "  rules: {prices: {H20: 2}}\n"
    assert costs_of(ruled) == 8 + 48
    rules = ("--rules", rules_file(tmp_path, "{rules: {prices: {H20: 3}}}"))
    assert costs_of(ruled, *rules) == 8 + 72
    assert costs_of(ruled, *rules, "--price", "H20=4") == 8 + 96


def test_the_cheapest_type_is_taken_by_those_prices(tmp_path: Path) -> None:
    text = CHAT.replace("gpuTypes: [H20, L20]", "gpuChoice: cheapest, gpuTypes: [H20, L20]")
    words = ("-f", service_file(tmp_path, text), "--fleet", fleet_file(tmp_path), "--json")

    def decode_on(*prices: str) -> set[str]:
        made = json.loads(plan(*words, "--decode", "1", *prices).stdout)
        return {one["gpu_type"] for one in made["services"][0]["instances"]}

    assert decode_on("--price", "H20=1,L20=9") == {"H20"}
    assert decode_on("--price", "H20=9,L20=1") == {"L20"}


def test_several_services_have_a_sum(tmp_path: Path) -> None:
    both = CHAT + "---\n" + CHAT.replace("name: chat", "name: other")
    words = ("-f", service_file(tmp_path, both), "--fleet", fleet_file(tmp_path))
    result = plan(*words, "--price", "H20=1,H100=1")
    assert result.stdout.rstrip().endswith(
        "New instances cost 64 an hour: 16 H100 × 1 + 48 H20 × 1."
    )


@pytest.mark.parametrize("word", ["H20", "H20=", "=3", "H20=-1", "H20=0", "H20=nan", "H20=x", ""])
def test_what_is_no_price_is_refused(files: tuple[str, ...], word: str) -> None:
    result = plan(*files, "--price", word)
    assert result.exit_code == 2
    assert "TYPE=PRICE wanted, a number above 0" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{rules: {prices: {H20: -3}}}", "spec.rules.prices.H20"),
        ("{rules: {price: {H20: 3}}}", "spec.rules.price"),
    ],
)
def test_wrong_rules_are_told_with_their_field(
    files: tuple[str, ...], tmp_path: Path, text: str, said: str
) -> None:
    result = plan(*files, "--rules", rules_file(tmp_path, text))
    assert result.exit_code == 2
    assert said in result.stderr


def test_rules_that_say_no_prices_and_files_that_are_none(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    assert plan(*files, "--rules", rules_file(tmp_path, "{}")).exit_code == 0
    assert plan(*files, "--rules", rules_file(tmp_path, "")).exit_code == 0
    assert "No such file" in plan(*files, "--rules", str(tmp_path / "no.yaml")).stderr
    assert "kind: is 'Service', not 'Coordinator'" in plan(*files, "--rules", files[1]).stderr


def test_live_prices_are_the_coordinators(typed: Typed, twin: OperatorTwin, tmp_path: Path) -> None:
    twin.instances.clear()
    twin.nodes = [live_node("a1", "x", gpu="H100"), live_node("a2", "x")]
    twin.prices = {"H100": 10.0, "H20": 1.0}
    words = ("plan", "-f", service_file(tmp_path), "--prefill", "1", "--decode", "1")
    assert "costs 48 an hour: 4 H100 × 10 + 8 H20 × 1" in typed(*words).stdout


def test_a_sub_clusters_own_price_counts_there_unless_another_is_typed() -> None:
    nodes = tuple(
        node(name, physical_cluster=site) for name, site in (("a", "east"), ("b", "west"))
    )
    subs = {"west": SubCluster(prices={"H20": 5.0})}
    known = Inventory("f", nodes, prices={"H20": 1.0}, sub_clusters=subs)
    spots = [Spot(Role.DECODE, (Rank(name, (0, 1)),), "g", "H20") for name in "ab"]
    assert costs.of_spots(spots, known).text == "12 an hour: 2 H20 × 1 + 2 H20 × 5"
    assert costs.of_spots(spots, costs.priced(known, {"H20": 2.0})).per_hour == 8


def test_a_step_without_instances_costs_nothing_and_nan_is_no_price() -> None:
    known = Inventory("f", (node("a"),), prices={"H20": float("nan")})
    assert costs.of_spots((), known).per_hour == 0
    spot = Spot(Role.DECODE, (Rank("a", (0, 1)),), "g", "H20")
    assert costs.of_spots((spot,), known).per_hour is None
