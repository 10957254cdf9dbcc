"""Mutual TLS end to end: who may be agent, who operator, and nobody beyond loopback without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
import yaml

from heteroscale.channel import TlsFiles
from heteroscale_workbench.cluster.processes import Part
from heteroscale_workbench.router import free_port
from tests.coordinator.test_trust import Authority
from tests.process.fleet import Fleet, fleet, hosts, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]
AGENT, OPERATOR = "heteroscale-agent", "heteroscale-operator"
FAR = "192.0.2.1:7070"
"""An address that nobody has (RFC 5737)."""


@dataclass(frozen=True)
class Secured:
    """A fleet behind mutual TLS, and who signs for it."""

    fleet: Fleet
    ours: Authority

    def shown(self, name: str, unit: str) -> dict[str, str]:
        """Return the `tls` part of an agent with a certificate of its own."""
        certificate, key = self.ours.issue(f"{name}-{unit}", name, unit)
        ca = self.ours.ca_file()
        return {"ca": str(ca), "certificate": str(certificate), "key": str(key)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ours = Authority(trustme.CA(), folder)
    certificate, key = ours.issue("server")
    server = {"certificate": str(certificate), "key": str(key), "clientCa": str(ours.ca_file())}
    agent, agent_key = ours.issue("agent-0", "agent-0", AGENT)
    how = layout(
        folder,
        hosts=hosts("H20"),
        coordinator_spec={"tls": server},
        agent_spec={
            "tls": {"ca": str(ours.ca_file()), "certificate": str(agent), "key": str(agent_key)}
        },
        operator_tls=TlsFiles(ours.ca_file(), *ours.issue("operator", "ann", OPERATOR)),
    )
    async with fleet(how) as made:
        yield Secured(made, ours)


async def _cli(secured: Secured, *arguments: str) -> tuple[int | None, str]:
    """Run ``heteroscale …`` and return its exit status and all it said."""
    return await _run(secured.fleet, "heteroscale_cli", *arguments)


async def _run(fleet: Fleet, module: str, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(fleet.cluster.coordinator.environ) | {"NO_COLOR": "1", "COLUMNS": "400"},
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode, " ".join(said.decode().split())


async def test_orders_and_reports_pass_through_mutual_tls(secured: Secured) -> None:
    await secured.fleet.serve()
    report = await secured.fleet.load(4.0, 32, 4, seconds=2.0).run()
    assert report.clean, report.failures
    tls = secured.shown("ann", OPERATOR)
    flags = ("--ca", tls["ca"], "--cert", tls["certificate"], "--key", tls["key"])
    address = secured.fleet.cluster.address
    status, said = await _cli(secured, "get", "services", "--coordinator", address, *flags)
    assert (status, "chat" in said) == (0, True)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (AGENT, "has no organisational unit heteroscale-operator"),
        ("accounting", "has no organisational unit heteroscale-operator"),
        ("", "is unreachable"),
    ],
)
async def test_only_operators_may_ask(secured: Secured, unit: str, words: str) -> None:
    """An agent's certificate, one of another purpose, and none at all."""
    tls = secured.shown("agent-0", unit)
    mine = ("--cert", tls["certificate"], "--key", tls["key"]) if unit else ()
    address = secured.fleet.cluster.address
    arguments = ("--coordinator", address, "--ca", tls["ca"], *mine)
    for verb in (("get", "services"), ("pause", "chat"), ("delete", "service", "chat", "--yes")):
        status, said = await _cli(secured, *verb, *arguments)
        assert status in (1, 3), said
        assert words in said
    (service,) = await secured.fleet.operator.services()
    assert (service.name, service.paused) == ("chat", False)


@pytest.mark.parametrize(
    ("name", "unit", "words"),
    [
        ("agent-9", OPERATOR, "has no organisational unit heteroscale-agent"),
        ("agent-0", AGENT, "does not cover agent 'agent-9'"),
    ],
)
async def test_only_its_own_agent_may_speak_for_an_id(
    secured: Secured, tmp_path: Path, name: str, unit: str, words: str
) -> None:
    """An operator's certificate, and one of another agent."""
    part = _agent_nine(secured, tmp_path, secured.shown(name, unit))
    await _refused(secured, part, "PERMISSION_DENIED: certificate", words)


async def test_a_stranger_is_not_even_heard(secured: Secured, tmp_path: Path) -> None:
    theirs = Authority(trustme.CA(), tmp_path)
    certificate, key = theirs.issue("stranger", "agent-9", AGENT)
    tls = {
        "ca": str(secured.ours.ca_file()),
        "certificate": str(certificate),
        "key": str(key),
    }
    await _refused(secured, _agent_nine(secured, tmp_path, tls), "UNAVAILABLE", "")


def _agent_nine(secured: Secured, folder: Path, tls: dict[str, str]) -> Part:
    """Return an agent with the id agent-9 that shows this certificate."""
    first = secured.fleet.cluster.agents["agent-0"]
    document = yaml.safe_load(Path(first.command[-1]).read_text("utf-8"))
    document["spec"] |= {"agentId": "agent-9", "stateDir": str(folder / "state"), "tls": tls}
    config = folder / "agent.yaml"
    config.write_text(yaml.safe_dump(document), "utf-8")
    command = (*first.command[:-1], str(config))
    return Part("agent-9", command, folder / "agent.log", first.environ)


async def _refused(secured: Secured, part: Part, status: str, words: str) -> None:
    await part.start()
    try:

        async def told() -> bool:
            part.require()
            return part.tail(100).count(status) >= 2

        await secured.fleet.until(told, f"{status} to be told")
        assert words in part.tail(100)
        assert {node.agent_id for node in await secured.fleet.operator.nodes()} == {"agent-0"}
    finally:
        await part.stop()
    assert '"event": "connected"' not in part.tail(1_000)


async def test_nothing_leaves_loopback_without_tls_or_a_word_said(secured: Secured) -> None:
    fleet, words = secured.fleet, "without TLS: give TLS files, or say --insecure"
    config = fleet.cluster.directory / "plain.yaml"
    spec = {"coordinator": FAR, "stateDir": str(fleet.cluster.directory / "plain")}
    document = {"apiVersion": "heteroscale/v1", "kind": "Agent", "spec": spec}
    await asyncio.to_thread(config.write_text, yaml.safe_dump(document), "utf-8")

    agent = ("heteroscale_agent", "check", "-c", str(config))
    status, said = await _run(fleet, *agent)
    assert (status, words in said) == (2, True), said
    assert (await _run(fleet, *agent, "--insecure"))[0] == 0

    coordinator = ("heteroscale_coordinator", "check", "--listen", f"0.0.0.0:{free_port()}")
    status, said = await _run(fleet, *coordinator)
    assert (status, words in said) == (2, True), said
    assert (await _run(fleet, *coordinator, "--insecure"))[0] == 0

    asking = ("get", "services", "--coordinator", FAR, "--timeout", "1s")
    status, said = await _cli(secured, *asking)
    assert (status, words in said) == (2, True), said
    assert (await _cli(secured, *asking, "--insecure"))[0] == 3
