"""Adapters in the coordinator's document: what is wrong is said with its place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_coordinator.__main__ import run
from heteroscale_coordinator.edge.adapters.catalogue import kinds

HEAD = "apiVersion: heteroscale/v1\nkind: Coordinator\nspec:\n"


def check(path: Path, adapters: str) -> int:
    file = path / "coordinator.yaml"
    file.write_text(f"{HEAD}  adapters: {adapters}\n")
    return run(["check", "-c", str(file)])


def test_our_own_are_installed() -> None:
    assert {"kubernetes", "memory", "slurm"} <= set(kinds())


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        (
            "[{name: east, kind: memroy}]",
            "adapters[0].kind: no adapter 'memroy' is installed; did you",
        ),
        (
            "[{name: east, kind: memory, options: {nodes: 0}}]",
            "adapters[0].options: nodes: Input should be greater",
        ),
        (
            "[{name: east, kind: memory}, {name: east, kind: memory}]",
            "two are named 'east'",
        ),
        ("[{name: a/b, kind: memory}]", "adapters"),
        ("[{name: prometheus, kind: memory}]", "`prometheus` is taken"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], adapters: str, said: str
) -> None:
    assert check(tmp_path, adapters) == 2
    assert said in capsys.readouterr().err


def test_what_is_right_is_valid(tmp_path: Path) -> None:
    assert check(tmp_path, "[{name: east, kind: memory, options: {gpuType: L20}}]") == 0
