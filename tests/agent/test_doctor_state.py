"""The doctor's word on the state directory and what its journal names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from heteroscale.words import InstanceState, Role
from heteroscale_agent.doctor import permissions, routers, state
from heteroscale_agent.doctor.finding import Level
from heteroscale_agent.identity import StateDirectory
from heteroscale_agent.instances import Record, dump_record
from heteroscale_agent.journal import Journal
from heteroscale_agent.ledger import epoch_entry, instance_entry
from heteroscale_agent.model import Gate, Launch
from tests.agent.doctor_cases import case, free_port, levels, only
from tests.agent.metrics_server import metrics_server


def test_a_state_directory_says_who_holds_it_and_what_it_keeps(tmp_path: Path) -> None:
    one = case(stateDir=str(tmp_path / "state"))
    assert only(state.look(one)).level is Level.NOTE
    with StateDirectory(tmp_path / "state") as directory:
        directory.identify("host-1")
        journal = Journal(tmp_path / "state", wall=lambda: 0.0)
        journal.append([epoch_entry(7)])
        found = {finding.check: finding for finding in state.look(one)}
        journal.close()
        assert state.lock_holder(one, tmp_path / "state/lock") == os.getpid()
    assert f"pid {os.getpid()}" in found["stateDir"].saw
    assert found["journal"].saw.startswith("epoch 7, 0 live instances")
    assert found["sync"].level in {Level.OK, Level.NOTE}
    assert state.kept_id(tmp_path / "state") == "host-1"
    before = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert levels(state.look(one))["stateDir"] is Level.NOTE
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == before


def test_a_journal_of_a_later_release_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path, wall=lambda: 0.0)
    journal.append([{"k": "format", "format": 99, "release": "9.9"}])
    journal.close()
    found = {finding.check: finding for finding in state.look(case(stateDir=str(tmp_path)))}
    assert found["journal"].level is Level.PROBLEM
    assert "heteroscale 9.9 in format 99" in found["journal"].saw


async def test_routers_of_the_journal_are_asked(tmp_path: Path) -> None:
    async with metrics_server() as server:
        good, bad = server.url.removesuffix("/metrics"), f"http://127.0.0.1:{free_port()}"
        gate = Gate(kind="sglang-router", routers=(good, bad))
        launch = Launch(service="s", role=Role.DECODE, template="t", gpu_indices=(0,), gate=gate)
        record = Record("i-1", launch, InstanceState.IN_SERVICE, 0.0, 0.0, pid=os.getpid())
        journal = Journal(tmp_path, wall=lambda: 0.0)
        journal.append([instance_entry("i-1", dump_record(record))])
        journal.close()
        one = case(stateDir=str(tmp_path))
        found = levels(await asyncio.to_thread(lambda: list(routers.look(one))))
    assert found == {good: Level.OK, bad: Level.PROBLEM}
    assert only(permissions.engines(one)).level is Level.OK
    assert only(routers.look(case(stateDir=str(tmp_path / "none")))).level is Level.NOTE
