"""Service files that cannot be meant: refused with file, line and field; nothing stored, nothing lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from heteroscale_workbench.cluster.local import Layout
from tests.process.fleet import Fleet, fleet

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

GOOD = """\
apiVersion: heteroscale/v1
kind: Service
metadata:
  name: good
spec:
  advisory: true
  ratio: "1:2"
  roles:
    prefill: {template: prefill, min: 1, max: 2}
    decode:
      template: decode
      min: 2
      max: 4
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A coordinator alone, that knows one service."""
    folder = tmp_path_factory.mktemp("files")
    async with fleet(Layout(folder, hosts=(), routers=0)) as made:
        await made.operator.apply(GOOD)
        assert [name for name, _ in await _known(made)] == ["good"]
        yield made


async def _apply(world: Fleet, *files: Path) -> tuple[int | None, str]:
    """Run ``heteroscale apply`` and return its exit status and all it said."""
    names = [word for file in files for word in ("-f", str(file))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heteroscale_cli", "apply", *names),
        *("--coordinator", world.cluster.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(world.cluster.coordinator.environ) | {"NO_COLOR": "1", "COLUMNS": "400"},
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode, " ".join(said.decode().split())


def _line(text: str, words: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), start=1) if words in line)


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        (("      max: 4", "      maxx: 4"), "spec.roles.decode.maxx", "did you mean `max`"),
        (("  advisory:", "  advisry:"), "spec.advisry", "did you mean `advisory`"),
        (('ratio: "1:2"', "ratio: 0"), "spec.ratio", "greater than 0"),
        (('ratio: "1:2"', 'ratio: "0:2"'), "spec.ratio", "greater than 0"),
        (('ratio: "1:2"', 'ratio: "1:0"'), "spec.ratio", "is no ratio"),
        (("      max: 4", "      max: 1"), "spec.roles.decode", "min 2 is above max 1"),
        (("      min: 2", "      min: two"), "spec.roles.decode.min", "integer"),
        (("      min: 2", "      min: -2"), "spec.roles.decode.min", "greater than 0"),
        (("      max: 4", "      max: 4\n      max: 5"), "spec.roles.decode.max", "twice"),
        (("kind: Service", "kind: Servce"), "kind", "Service"),
        (("kind: Service", "kind: Agent"), "kind", "Service"),
        (("  name: good", "  name: Not A Name"), "metadata.name", "pattern"),
        (("      max: 4", "      max: [4"), "", "expected ',' or ']'"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_changes(
    world: Fleet, tmp_path: Path, change: tuple[str, str], where: str, words: str
) -> None:
    text = GOOD.replace(*change).replace("name: good", "name: bad")
    file = tmp_path / "service.yaml"
    file.write_text(text, "utf-8")
    before = await _known(world)
    status, said = await _apply(world, file)
    assert status == 1, said
    assert words in said
    if where:
        field = where.rpartition(".")[2]
        line = max(n for n, t in enumerate(text.splitlines(), 1) if t.strip().startswith(field))
        assert f"{file}:{line}: {where}: " in said
    else:
        assert f"{file}:" in said
    assert await _known(world) == before
    good = tmp_path / "good.yaml"
    good.write_text(GOOD, "utf-8")
    assert "unchanged" in (await _apply(world, good))[1]


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- list\n", "\t\x00", "a: &a [*a]\n", "{" * 500]
)
async def test_what_is_no_service_at_all(world: Fleet, tmp_path: Path, text: str) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(text, "utf-8")
    before = await _known(world)
    status, said = await _apply(world, file)
    assert status in (1, 2), said
    assert str(file) in said
    assert "Traceback" not in said
    assert await _known(world) == before


async def test_one_wrong_document_keeps_all_others_out(world: Fleet, tmp_path: Path) -> None:
    new = GOOD.replace("name: good", "name: other")
    wrong = GOOD.replace("name: good", "name: bad").replace("max: 4", "max: 0")
    file = tmp_path / "services.yaml"
    file.write_text(f"{new}---\n{wrong}", "utf-8")
    before = await _known(world)
    status, said = await _apply(world, file)
    assert status == 1
    assert f"{file}:{_line(file.read_text(), 'max: 0')}: spec.roles.decode" in said
    assert await _known(world) == before


async def _known(world: Fleet) -> list[tuple[str, str]]:
    """Return every service that the coordinator knows, with its document."""
    assert await world.ready()
    return [(one.name, one.document) for one in await world.operator.services()]
