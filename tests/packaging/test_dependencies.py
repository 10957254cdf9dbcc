"""pyproject.toml names what the code imports: all of it, where it is needed, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.ground import PACKAGES, ROOT, declared, project

EXTRA_OF = {
    "heteroscale": "",
    "heteroscale_agent": "",
    "heteroscale_coordinator": "coordinator",
    "heteroscale_scheduler_adapters": "",
    "heteroscale_simulator": "simulator",
    "heteroscale_advisor": "advisor",
    "heteroscale_workbench": "workbench",
    "heteroscale_cli": "cli",
}
ROOMS = {
    "heteroscale_scheduler_adapters/kubernetes": "kubernetes",
    "heteroscale_scheduler_adapters/slurm": "slurm",
}
"""Rooms of a package that come with an extra of their own."""
PARTS = {"pydantic-core": "pydantic"}
"""Libraries that are the inside of another, which pins them."""
STARTED = {"sglang-router"}
"""Libraries that run as processes of their own: no import names them."""

READ = {"tzdata"}
"""Data that the standard library reads where the system has none."""


def imports(path: Path) -> Iterator[str]:
    """Return the dotted names that a file imports from outside the project."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in PACKAGES:
                yield name


@cache
def owners() -> dict[Path, str]:
    """Return the library that each installed file belongs to."""
    found: dict[Path, str] = {}
    for library in distributions():
        for file in library.files or ():
            if file.suffix in (".py", ".so"):
                found[Path(str(file.locate())).resolve()] = canonicalize_name(library.name)
    return found


@cache
def library_of(module: str) -> str:
    """Return the library that a module comes from; google.protobuf and its like are several."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is not installed"
    assert spec.origin is not None, f"{module} is a bare namespace"
    name = owners()[Path(spec.origin).resolve()]
    return PARTS.get(name, name)


def needs(package: str) -> set[tuple[str, str]]:
    """Return each library that a package imports, with the extra that brings the importing room."""
    found: set[tuple[str, str]] = set()
    for path in sorted((ROOT / PACKAGES[package] / package).rglob("*.py")):
        room = next((extra for part, extra in ROOMS.items() if f"/{part}/" in str(path)), "")
        extra = room or EXTRA_OF[package]
        found |= {(library_of(module), extra) for module in imports(path)}
    return found


def test_every_package_of_the_tree_is_looked_at_and_shipped() -> None:
    standing = {path.parent.name for path in ROOT.glob("*/heteroscale*/py.typed")}
    assert standing == set(PACKAGES) == set(EXTRA_OF)
    tool = project()["tool"]
    places = [f"{folder}/{package}" for package, folder in PACKAGES.items()]
    assert sorted(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(places)
    assert set(tool["importlinter"]["root_packages"]) == set(PACKAGES)
    for paths in (tool["pytest"]["ini_options"]["pythonpath"], tool["mypy"]["mypy_path"]):
        assert set(PACKAGES.values()) <= set(paths)
    assert set(PACKAGES.values()) == set(tool["ruff"]["src"])


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_declared_where_it_is_installed(package: str) -> None:
    missing = {name: extra for name, extra in needs(package) if name not in declared(extra)}
    assert missing == {}


def test_nothing_is_declared_that_nobody_imports() -> None:
    imported = {name for package in PACKAGES for name, _ in needs(package)}
    assert declared("all") - imported - STARTED - READ == set()


def test_an_extra_does_not_say_again_what_the_base_brings() -> None:
    for extra, texts in project()["project"]["optional-dependencies"].items():
        names = {canonicalize_name(Requirement(text).name) for text in texts}
        assert names.isdisjoint(declared()), extra


def test_the_build_uses_the_same_generator_as_the_developer() -> None:
    table = project()
    developer = set(table["dependency-groups"]["dev"])
    assert set(table["build-system"]["requires"]) <= developer
