"""The real kustomize makes of each overlay what our resolver makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.deploy.kustomize import identity, resolve
from tests.kubernetes.deploy.test_overlays import DEPLOY, OVERLAYS

KUBECTL = shutil.which("kubectl") or ""
OLDEST = (1, 22)
"""With it came the form of `patches` that is used here."""


def version() -> tuple[int, int]:
    """Return kubectl's version; (0, 0): there is none."""
    if not KUBECTL:
        return 0, 0
    said = subprocess.run(
        [KUBECTL, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False
    )
    found = re.match(
        r"v(\d+)\.(\d+)",
        json.loads(said.stdout or "{}").get("clientVersion", {}).get("gitVersion", ""),
    )
    return (int(found[1]), int(found[2])) if found else (0, 0)


@pytest.mark.skipif(version() < OLDEST, reason="needs kubectl 1.22 or later")
@pytest.mark.parametrize(
    "overlay", [*OVERLAYS, DEPLOY / "adapter"], ids=lambda path: str(path.name)
)
def test_the_real_one_resolves_alike(overlay: Path) -> None:
    done = subprocess.run(
        [KUBECTL, "kustomize", str(overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    real = {identity(one): sorted_lists(one) for one in yaml.safe_load_all(done.stdout)}
    assert real == {identity(one): sorted_lists(one) for one in resolve(overlay)}


def sorted_lists(node: Any) -> Any:
    """Return it with its lists of objects sorted: a merge promises no order of ports or volumes."""
    if isinstance(node, dict):
        return {key: sorted_lists(each) for key, each in node.items()}
    if isinstance(node, list):
        inner = [sorted_lists(each) for each in node]
        if all(isinstance(each, dict) for each in inner):
            return sorted(inner, key=lambda each: json.dumps(each, sort_keys=True))
        return inner
    return node
