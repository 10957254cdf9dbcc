"""Four ways to install, and every package imported in each."""

from __future__ import annotations

import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging import ground
from tests.packaging.ground import PACKAGES, Environment, closure, declared

WALK = (Path(__file__).parent / "walk.py").read_text()
WAYS = ("wheel", "wheel from sdist", "editable")
NEVER_IN_THE_AGENT = (
    *("typer", "numpy", "sqlalchemy", "alembic", "aiohttp", "fastapi", "sglang_router"),
    *("rich", "httpx", "prometheus_client"),
    *("heteroscale_coordinator", "heteroscale_cli"),
    *("heteroscale_simulator", "heteroscale_advisor", "heteroscale_workbench"),
)


@dataclass(frozen=True)
class Built:
    """What the builds made, and the tree they were made from."""

    source: Path
    sdist: Path
    wheels: dict[str, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    source = ground.copy_tree(folder / "source")
    sdist = ground.build(source, folder / "sdist", "--sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheels = {
        "wheel": ground.build(source, folder / "wheel", "--wheel"),
        "wheel from sdist": ground.build(unpacked, folder / "again", "--wheel"),
        "editable": ground.build_editable(source, folder / "editable"),
    }
    return Built(source, sdist, wheels)


@pytest.fixture(scope="module")
def environments(built: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environment]:
    """Return an environment for each way, with all that `heteroscale[all]` brings."""
    libraries = closure(declared("all"))
    folder = tmp_path_factory.mktemp("environments")
    return {
        way: Environment(folder / way.replace(" ", "-"), wheel, libraries)
        for way, wheel in built.wheels.items()
    }


def base_name(path: Path) -> str:
    return str(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def modules_of(package: str) -> set[str]:
    """Return the dotted names of all modules in the tree, generated ones included."""
    folder = ground.ROOT / PACKAGES[package]
    found = {base_name(path.relative_to(folder)) for path in (folder / package).rglob("*.py")}
    # Alembic runs its scripts itself; they are no modules of a package.
    return {name for name in found if ".migrations" not in name and "__pycache__" not in name}


@pytest.mark.parametrize("way", WAYS)
def test_every_module_of_every_package_imports(
    way: str, built: Built, environments: dict[str, Environment]
) -> None:
    imported: dict[str, str] = environments[way].run(WALK, *PACKAGES)
    for package in PACKAGES:
        assert modules_of(package) <= imported.keys()
    home = built.source if way == "editable" else environments[way].folder
    strangers = [name for name, file in imported.items() if not Path(file).is_relative_to(home)]
    assert strangers == []


FILES = """
import json, sys
from importlib.resources import files
wanted = json.loads(sys.argv[1])
print(json.dumps([f"{p}/{n}" for p, names in wanted.items() for n in names
                  if not files(p).joinpath(n).is_file()]))
"""


def shipped_files() -> dict[str, list[str]]:
    """Return every file beside the code that the packages hold in the tree."""
    data: dict[str, list[str]] = {}
    for package, folder in PACKAGES.items():
        root = ground.ROOT / folder / package
        paths = [
            path for path in root.rglob("*") if path.is_file() and "__pycache__" not in str(path)
        ]
        data[package] = [str(p.relative_to(root)) for p in paths if p.suffix not in (".py", ".pyc")]
        data[package] += [str(p.relative_to(root)) for p in paths if "migrations" in p.parts]
    return data


def test_the_tree_holds_the_data_files_that_the_code_reads() -> None:
    data = shipped_files()
    for package in PACKAGES:
        assert "py.typed" in data[package]
    stubs = [f"v1/{name}_pb2{tail}.pyi" for name in ("agent", "operator") for tail in ("", "_grpc")]
    assert set(stubs) <= set(data["heteroscale"])
    assert "nvml_stub/nvml_stub.c" in data["heteroscale_workbench"]
    assert any(name.startswith("profiles/") for name in data["heteroscale_simulator"])
    migrations = [n for n in data["heteroscale_coordinator"] if "migrations/versions/" in n]
    assert migrations


@pytest.mark.parametrize("way", WAYS)
def test_types_stubs_and_data_files_come_along(
    way: str, environments: dict[str, Environment]
) -> None:
    assert environments[way].run(FILES, json.dumps(shipped_files())) == []


MIGRATE = """
import json, sys, pathlib
from heteroscale_coordinator.edge.store.sqlite import open_sqlite
store = open_sqlite(pathlib.Path(sys.argv[1]))
store.close()
print(json.dumps([p.name for p in pathlib.Path(sys.argv[1]).iterdir()]))
"""

ENTRIES = """
import json
from importlib.metadata import distribution
entries = distribution("heteroscale").entry_points
print(json.dumps({f"{e.group}:{e.name}": callable(e.load()) for e in entries}))
"""


@pytest.mark.parametrize("way", WAYS)
def test_the_store_finds_its_migrations(
    way: str, environments: dict[str, Environment], tmp_path: Path
) -> None:
    assert "coordinator.db" in environments[way].run(MIGRATE, str(tmp_path / "data"))


@pytest.mark.parametrize("way", WAYS)
def test_scripts_and_entry_points_lead_somewhere(
    way: str, environments: dict[str, Environment]
) -> None:
    table = ground.project()["project"]
    wanted = {f"console_scripts:{name}" for name in table["scripts"]}
    for group, entries in table["entry-points"].items():
        wanted |= {f"{group}:{name}" for name in entries}
    found = environments[way].run(ENTRIES)
    assert found == dict.fromkeys(wanted, True)
    for name in table["scripts"]:
        assert "usage" in environments[way].script(name, "--help").lower()


def test_the_sdist_has_the_project_and_nothing_that_lies_about(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"):
        assert name in names
    for package, folder in PACKAGES.items():
        assert f"{folder}/{package}/__init__.py" in names
    assert {"proto/generate.py", "proto/heteroscale/v1/agent.proto"} <= names
    assert any(name.startswith("tests/") for name in names)
    assert names.isdisjoint(ground.JUNK)
    hidden = [name for name in names if name.startswith(".") or "/." in name]
    assert hidden == [".gitignore"]


def test_wheels_hold_the_packages_and_nothing_else(built: Built) -> None:
    for way in ("wheel", "wheel from sdist"):
        names = zipfile.ZipFile(built.wheels[way]).namelist()
        tops = {name.partition("/")[0] for name in names}
        assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
        assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []
    first, second = (set(zipfile.ZipFile(built.wheels[way]).namelist()) for way in WAYS[:2])
    assert first == second


LOADED = """
import json, sys
import heteroscale_agent.__main__
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_an_agent_loads_nothing_heavy(
    built: Built, environments: dict[str, Environment], tmp_path: Path
) -> None:
    everything = environments["wheel"].run(LOADED)
    assert [name for name in NEVER_IN_THE_AGENT if name in everything] == []
    small = Environment(tmp_path / "small", built.wheels["wheel"], closure(declared()))
    assert [name for name in NEVER_IN_THE_AGENT if name in small.run(LOADED)] == []


@pytest.mark.parametrize(
    ("extra", "packages"),
    [
        ("", ["heteroscale", "heteroscale_agent"]),
        (
            "coordinator",
            ["heteroscale", "heteroscale_coordinator", "-heteroscale_coordinator.cluster"],
        ),
        ("kubernetes", ["heteroscale_scheduler_adapters.kubernetes"]),
        ("slurm", ["heteroscale_scheduler_adapters.slurm"]),
        ("cli", ["heteroscale", "heteroscale_cli"]),
        ("simulator", ["heteroscale", "heteroscale_simulator"]),
        ("advisor", ["heteroscale", "heteroscale_advisor"]),
        ("workbench", ["heteroscale", "heteroscale_workbench"]),
    ],
)
def test_each_extra_is_enough_for_its_package(
    extra: str, packages: list[str], built: Built, tmp_path: Path
) -> None:
    libraries = closure(declared(extra))
    assert Environment(tmp_path / "e", built.wheels["wheel"], libraries).run(WALK, *packages)
