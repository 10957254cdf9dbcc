"""`heteroscale advise` against a real Prometheus that holds a service's past."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from heteroscale.documents import read_file
from heteroscale.words import Role
from heteroscale_advisor.command import execute
from heteroscale_coordinator.core.spec import ServiceDocument
from tests.advisor.day import Day, swing
from tests.prometheus.server import prometheus, write_past

SECONDS = 3000
EVERY = 15
DAY = Day(
    swing(3.0, 24.0, SECONDS),
    unseen=lambda pod, t: pod == "chat-decode-2" and 600 <= t < 900,
    away=lambda pod, t: pod == "chat-decode-3" and 1200 <= t < 2400,
)


def run(url: str, now: float, *words: str) -> tuple[int, str, str]:
    """Run a command line; return its code, and what it said to whom."""
    out, err = io.StringIO(), io.StringIO()
    argv = ("--prometheus", url, "--since", f"{SECONDS}s", "--step", "60s", *words)
    code = execute(argv, out, Console(file=err, width=200), now, {})
    return code, out.getvalue(), err.getvalue()


async def test_from_the_first_question_to_the_page_for_the_boss(tmp_path: Path) -> None:
    # Blocks of the past want whole minutes; the newest is a minute old, as scrapes may be.
    now = float(int(time.time()) // 60 * 60)
    start = int(now) - SECONDS
    data = write_past(tmp_path, DAY.openmetrics(start, SECONDS, EVERY))
    page, service = tmp_path / "chat.html", tmp_path / "service.yaml"
    async with prometheus(tmp_path, data=data) as url:
        asked = asyncio.get_running_loop().run_in_executor
        code, text, said = await asked(None, run, url, now, "--service", "caht")
        assert (code, text) == (1, "")
        assert "There is model_name: chat" in said

        code, text, said = await asked(None, run, url, now, "--service", "chat", "--show-queries")
        assert (code, said) == (0, "looking for the service …\n")
        assert "# chat-decode-0: vllm, decode" in text
        assert "rate(vllm:generation_tokens_total{" in text

        # GPUs of an instance: nobody says them but dcgm-exporter.
        words = ("--service", "chat", "--startup", "30s")
        outputs = ("--json", "-", "--html", str(page), "--write", str(service), "--slo-tbt", "50ms")
        code, text, said = await asked(None, run, url, now, *words, *outputs)
        assert code == 0, said
    body = json.loads(text)
    roles = {row["role"]: row for row in body["roles"]}
    assert roles["prefill"]["engines"] == {"vllm": 4}
    assert roles["decode"]["gpu_types"] == {"H20": 8}
    assert (roles["decode"]["fewest"], roles["decode"]["most"]) == (7, 8)
    # One of eight was not scraped for five minutes of fifty, and a minute's window closes the rest. Of
    # another's twenty minutes away five are unknown: so long a past that was filled in says `up`.
    assert 0.74 <= body["known"] <= 0.82
    assert body["ratio"]["held"]["median"] == 0.5
    hours = body["known"] * SECONDS / 3600
    away = 15 * 60 / 3600
    assert body["held"]["gpu_hours"] == pytest.approx(hours * (4 * 2 + 8 * 4) - away * 4, abs=0.15)
    assert body["held"]["kept"]["tbt"] == 1.0
    assert body["saved"] == pytest.approx(
        1 - body["joint"]["gpu_hours"] / body["held"]["gpu_hours"]
    )
    assert any(one["action"] == "scale_in" for one in body["decisions"])
    assert page.read_text("utf-8").count("<svg") >= 8
    (document,) = read_file(service)
    spec = document.parse(ServiceDocument).spec
    assert spec.advisory
    assert spec.roles[Role.DECODE].gpus == 4
