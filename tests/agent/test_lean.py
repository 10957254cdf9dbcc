"""What an agent's process must not load, on a machine where everything is installed."""

from __future__ import annotations

from pathlib import Path

from tests.agent.stub_process import run_script

HEAVY = (
    *("typer", "click", "rich", "pygments", "attr", "numpy", "sqlalchemy", "alembic", "aiohttp"),
    *(
        "importlib.metadata",
        "email",
        "zipfile",
        "httpx",
        "requests",
        "urllib3",
        "prometheus_client",
        "heteroscale_coordinator",
    ),
    *("heteroscale_workbench", "heteroscale_cli", "http.server", "unittest", "sqlite3"),
)

LOADED = """
import json, sys
import heteroscale_agent.__main__
print(json.dumps(sorted(sys.modules)))
"""

WANTED_LATER = """
import json, sys
import heteroscale_agent.__main__
before = "rich" in sys.modules
import rich.console
import structlog
print(json.dumps([before, rich.console.Console.__name__, structlog.dev.rich is None]))
"""


def test_an_agent_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = run_script(LOADED, tmp_path / "none")
    assert "heteroscale_agent.eyes" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_what_was_kept_out_can_still_be_had(tmp_path: Path) -> None:
    assert run_script(WANTED_LATER, tmp_path / "none") == [False, "Console", True]
