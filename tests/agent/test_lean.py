"""What an agent's process must not load, on a machine where everything is installed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.agent.small_pods import SmallPods
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
    *("ssl", "_ssl", "_hashlib"),
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

HTTPS = """
from heteroscale_agent import tls
import asyncio, json, sys
from pathlib import Path
from heteroscale_agent.exchange import ExchangeError, exchange
url, authority = sys.argv[1:]

async def ask(trust):
    try:
        return (await exchange("GET", url, deadline=30.0, limit=1000, tls=trust))[0]
    except ExchangeError as error:
        return str(error)

before = "ssl" in sys.modules
told = [asyncio.run(ask(trust)) for trust in (None, tls.context(Path(authority)))]
print(json.dumps([before, *told]))
"""


def test_an_agent_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = run_script(LOADED, tmp_path / "none")
    assert "heteroscale_agent.eyes" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_what_was_kept_out_can_still_be_had(tmp_path: Path) -> None:
    assert run_script(WANTED_LATER, tmp_path / "none") == [False, "Console", True]


async def test_https_is_spoken_by_a_process_that_began_without_it(tmp_path: Path) -> None:
    pods = SmallPods(tmp_path)
    await pods.start()
    try:
        url = f"{pods.access.api_server}/api/v1/namespaces/llm/pods/vllm-0"
        words = (HTTPS, tmp_path / "none", url, str(pods.access.ca_file))
        before, stranger, known = await asyncio.to_thread(run_script, *words)
    finally:
        await pods.stop()
    assert not before
    assert "CERTIFICATE_VERIFY_FAILED" in stranger
    assert known == 401
