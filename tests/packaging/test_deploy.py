"""What deploy/ ships: units that systemd takes as they are, and an installer that harms nothing."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import ground, releases
from tests.packaging.releases import INSTALLER, Host

pytestmark = pytest.mark.timeout(600)
UNITS = ground.ROOT / "deploy" / "systemd"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A prefix with agent and coordinator of this tree."""
    folder = tmp_path_factory.mktemp("host")
    (wheel,) = releases.build(folder, "0.1.0")
    host = Host(folder / "opt", releases.lend(folder / "lent", ("", "coordinator", "cli")))
    said = host.install("agent", "coordinator", "--from", wheel)
    assert "heteroscale 0.1.0 is in use" in said
    return host


def wheel_of(host: Host) -> Path:
    (wheel,) = (host.prefix.parent / "0.1.0").glob("*.whl")
    return wheel


def unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("part", ["agent", "coordinator"])
def test_systemd_takes_the_installed_unit_without_a_word(host: Host, part: str) -> None:
    path = host.prefix / f"systemd/heteroscale-{part}.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_agents_unit_lets_engines_live_and_see() -> None:
    service = unit(UNITS / "heteroscale-agent.service")
    assert service["KillMode"] == "process"
    assert service["Restart"] == "always"
    assert service["OOMPolicy"] == "continue"
    assert service["LimitMEMLOCK"] == "infinity"
    closed = ("MemoryMax", "MemoryHigh", "CPUQuota", "PrivateTmp", "PrivateDevices", "DevicePolicy")
    assert [name for name in (*closed, "ProtectClock", "NoNewPrivileges") if name in service] == []


def test_the_coordinators_unit_is_locked_up() -> None:
    service = unit(UNITS / "heteroscale-coordinator.service")
    assert service["User"] == "heteroscale"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"


def test_what_was_installed_runs(host: Host) -> None:
    for words in (["agent", "check"], ["coordinator", "check"]):
        config = host.prefix / f"etc/{words[0]}.yaml"
        done = host.run("heteroscale", *words, "-c", config)
        assert done.returncode == 0, done.stderr
    told = host.run("heteroscale-agent", "doctor", "-c", host.prefix / "etc/agent.yaml")
    assert told.returncode in {0, 1}
    assert "etc/agent.yaml is valid" in told.stdout


def test_again_is_quick_and_a_configuration_is_never_written_over(host: Host) -> None:
    config = host.prefix / "etc/agent.yaml"
    mine = config.read_text() + "  # mine\n"
    config.write_text(mine)
    said = host.install("agent", "--from", wheel_of(host))
    assert "release 0.1.0 is there" in said
    assert config.read_text() == mine


def test_a_release_that_refuses_the_configuration_changes_nothing(host: Host) -> None:
    config = host.prefix / "etc/agent.yaml"
    before = config.read_text()
    config.write_text(before.replace("spec:", "spec:\n  nonsense: 1"))
    unit_before = (host.prefix / "systemd/heteroscale-agent.service").stat().st_ino
    said = host.install("agent", "--from", wheel_of(host), status=1)
    config.write_text(before)
    assert "spec.nonsense" in said
    assert "nothing was changed" in said
    assert (host.prefix / "systemd/heteroscale-agent.service").stat().st_ino == unit_before
    assert host.current == "0.1.0"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--nonsense"], 2, "what is --nonsense?"),
        (["--from"], 2, "--from wants a value"),
        (["--from", "/nowhere/heteroscale-1.whl"], 1, "no such file"),
        (["--rollback"], 1, "no release before"),
        (["--python", "/bin/false"], 1, "Python 3.11"),
    ],
)
def test_what_cannot_be_done_is_said(host: Host, words: list[str], status: int, says: str) -> None:
    command = [*words] if words == ["--from"] else [*words, "--prefix", str(host.prefix)]
    done = subprocess.run(
        [str(INSTALLER), *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status
    assert says in done.stderr
    assert host.current == "0.1.0"


def test_removed_with_state_kept_then_purged(host: Host) -> None:
    state = host.prefix / "var/heteroscale-agent"
    state.mkdir(parents=True)
    (state / "agent.json").write_text('{"agent_id": "a", "incarnation": 1}')
    said = host.install("--uninstall")
    assert "kept:" in said
    assert (host.prefix / "etc/agent.yaml").exists()
    assert sorted(path.name for path in host.prefix.iterdir()) == ["etc", "var"]
    host.install("--uninstall", "--purge")
    assert not host.prefix.exists()
