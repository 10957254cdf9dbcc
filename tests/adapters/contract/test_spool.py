"""The adapter that docs/writing-an-adapter.md writes, installed as a package is, keeps the contract."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from heteroscale_coordinator.edge.adapters import catalogue
from heteroscale_coordinator.edge.adapters.settings import AdapterSettings
from heteroscale_scheduler_adapters.port import Adapter, SettingsError, UnavailableError
from tests.adapters.contract.harness import Cluster
from tests.adapters.contract.suite import PortContract
from tests.docs.reference import DOCS

PAGE = (DOCS / "writing-an-adapter.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the page's first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay the package out as an installer would, where Python finds it."""
    site = tmp_path / "site-packages"
    project = tomllib.loads(block("toml"))["project"]
    info = site / f"heteroscale_spool-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (site / "spool.py").write_text(block("python"), encoding="utf-8")
    said = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(said, encoding="utf-8")
    points = project["entry-points"][catalogue.GROUP]
    lines = [f"[{catalogue.GROUP}]", *(f"{name} = {what}" for name, what in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "spool", raising=False)


class SpoolHarness:
    """Hosts and users of a spool folder."""

    service = "chat"
    templates: Mapping[str, str] = {"prefill": "chat-prefill", "decode": "chat-decode"}
    pace = 0.0
    lacks: Mapping[str, str] = {
        "taint": "a spool has no taints",
        "quota": "a spool has no quotas",
        "others": "only steps of ours are spooled",
        "keep": "a spool keeps nobody",
        "expire": "a spool tells no changes",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "spool"
        (self.folder / "nodes").mkdir(parents=True)
        self._last: Any = None

    async def adapter(self) -> Adapter:
        templates = [{"name": name, "role": role} for role, name in self.templates.items()]
        options = {"folder": str(self.folder), "templates": templates}
        made: Any = catalogue.create(AdapterSettings(name="lab", kind="spool", options=options))
        await made.open()
        self._last = made
        return made  # type: ignore[no-any-return]

    def _write(self, kind: str, name: str, **value: Any) -> None:
        path = self.folder / kind / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **value}))

    async def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        self._write("nodes", name, gpus=gpus, type=gpu_type, topology=dict(topology or {}))

    async def remove_node(self, name: str) -> None:
        (self.folder / "nodes" / f"{name}.json").unlink()

    async def cordon(self, name: str, why: str) -> None:
        self._write("nodes", name, closed=why)

    async def occupy(self, node: str, gpus: int) -> str:
        self._write("nodes", node, held=[{"holder": "alice's training", "gpus": gpus}])
        return "alice"

    async def start(self, instance_id: str) -> None:
        self._write("status", instance_id, phase="starting")

    async def ready(self, instance_id: str) -> None:
        self._write("status", instance_id, phase="ready", endpoint=f"http://host/{instance_id}")

    async def fail(self, instance_id: str) -> None:
        self._write("status", instance_id, phase="failed", message="exit status 1")

    async def finish(self, instance_id: str) -> None:
        self._write("status", instance_id, phase="ended")

    async def outage(self) -> None:
        self.folder.rename(self.folder.with_name("unmounted"))

    async def recover(self) -> None:
        self.folder.with_name("unmounted").rename(self.folder)

    async def lose_next_answer(self, call: str) -> None:
        taken = self._last.launch

        async def lost(step: Any) -> None:
            self._last.launch = taken
            await taken(step)
            raise UnavailableError("the answer was lost")

        self._last.launch = lost

    async def taint(self, name: str, key: str, value: str, effect: str) -> None:
        raise NotImplementedError

    async def quota(self, gpu_type: str, limit: int) -> None:
        raise NotImplementedError

    async def others(self, role: str, node: str) -> str:
        raise NotImplementedError

    async def keep(self, instance_id: str, why: str) -> None:
        raise NotImplementedError

    async def expire(self) -> None:
        raise NotImplementedError


@pytest.mark.usefixtures("installed")
class TestSpool(PortContract):
    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Cluster:
        return SpoolHarness(tmp_path)


@pytest.mark.usefixtures("installed")
def test_its_kind_is_known_and_its_errors_name_the_place() -> None:
    assert "spool" in catalogue.kinds()
    wrong = AdapterSettings(name="lab", kind="spool", options={"path": "/srv"})
    with pytest.raises(SettingsError, match=r"adapters\[0\].options: options are folder"):
        catalogue.create_all([wrong])
    assert import_module("spool").Spool.capabilities.gates is False
