"""``heteroscale profile`` on a real deployment: engines, router, coordinator, and the file it writes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from heteroscale.documents import read_one
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_workbench.pressure.command import run
from tests.process.fleet import document, fleet, layout

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]
QUICK = (
    *("--input-tokens", "200", "--output-tokens", "20", "--spread", "0"),
    *("--warm-up", "1", "--measure", "4", "--tolerance", "0.6", "--attainment", "0.9"),
)
SLO = {"ttft": "2s", "tbt": "400ms"}


async def test_splits_are_made_loads_are_tried_and_the_file_is_written(tmp_path: Path) -> None:
    async with fleet(layout(tmp_path / "cluster")) as made:
        text = document(made.cluster, (1, 1), (1, 1), slo=SLO, model={"name": "simulated"})
        await made.operator.apply(text)
        await made.counts(1, 1)
        service, out = tmp_path / "chat.yaml", tmp_path / "out.json"
        service.write_text(text)
        command = [
            *("--service", str(service), "--endpoint", made.cluster.url),
            *("--coordinator", made.cluster.address, "--counts", "1,1", "--counts", "1,2"),
            *("--patience", "60", "--json", str(out), "--yes-this-is-not-production", *QUICK),
        ]
        assert await asyncio.to_thread(run, command) == 0
        # The service has its own document again.
        await made.counts(1, 1)
    found = json.loads(out.read_text())
    assert found["ceiling"] == 1
    one, two = (split["limit"] for split in found["splits"])
    assert one["rate"] > 0
    assert two["counts"] == [1, 2]
    written = read_one(service, "Service").parse(ServiceDocument).spec
    assert written.roles[Role.DECODE].max == 1
    assert written.roles[Role.DECODE].target_of("") == pytest.approx(
        found["targets"]["decode"][""], rel=0.01
    )
    # Every trial is in the journal, behind what it is of and the light load that the ceiling was
    # read at: the same command has nothing left to try.
    journal = (tmp_path / "chat.profile.jsonl").read_text()
    assert len(journal.splitlines()) == 2 + sum(split["trials"] for split in found["splits"])
