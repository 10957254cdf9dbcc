"""What the doctor's tests share."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.doctor.finding import Case, Finding, Level


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"coordinator": "127.0.0.1:1", **fields})


def case(**fields: Any) -> Case:
    return Case(spec(**fields), deadline=10.0)


def levels(found: Any) -> dict[str, Level]:
    return {finding.check: finding.level for finding in found}


def only(found: Any) -> Finding:
    (finding,) = found
    assert isinstance(finding, Finding)
    return finding


def document(folder: Path, body: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(f"apiVersion: heteroscale/v1\nkind: Agent\nspec:\n{body}")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
