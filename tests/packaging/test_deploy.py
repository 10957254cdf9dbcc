"""What deploy/ ships: units that systemd takes as they are, and an installer that harms nothing."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale.documents import read_documents
from heteroscale_agent.config import AgentDocument
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
    assert "etc/agent.yaml is valid" in " ".join(told.stdout.split())


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


# ---- containers --------------------------------------------------------------------------------

CONTAINER = ground.ROOT / "deploy" / "container"
DAEMONSET = ground.ROOT / "deploy" / "kubernetes" / "agent" / "daemonset.yaml"


def test_a_container_is_built_from_all_that_the_wheel_needs() -> None:
    lines = (CONTAINER / "Containerfile.dockerignore").read_text().split()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert {*ground.PACKAGES.values(), "pyproject.toml", "README.md", "LICENSE"} <= sent
    text = (CONTAINER / "Containerfile").read_text()
    extras = set(ground.project()["project"]["optional-dependencies"])
    (wanted,) = re.findall(r"\$wheel\[([a-z,]+)\]", text)
    assert set(wanted.split(",")) <= extras
    scripts = set(ground.project()["project"]["scripts"])
    assert set(re.findall(r'ENTRYPOINT \["([a-z-]+)"\]', text)) <= scripts
    assert text.count("USER 10001:10001") == text.count("ENTRYPOINT")


def manifests() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(DAEMONSET.read_text())}


def test_the_daemonset_holds_together() -> None:
    found = manifests()
    pod = found["DaemonSet"]["spec"]["template"]["spec"]
    name, namespace = "heteroscale-agent", found["Namespace"]["metadata"]["name"]
    for kind in ("ServiceAccount", "ConfigMap", "DaemonSet"):
        assert found[kind]["metadata"] == {"name": name, "namespace": namespace}
    assert pod["serviceAccountName"] == name
    (subject,) = found["ClusterRoleBinding"]["subjects"]
    assert (subject["name"], subject["namespace"]) == (name, namespace)
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    labels = found["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert found["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels
    assert pod["securityContext"]["runAsUser"] == 10001


def test_the_daemonsets_agent_only_watches_and_its_files_are_mounted() -> None:
    found = manifests()
    ((file, text),) = found["ConfigMap"]["data"].items()
    (document,) = read_documents(text, file)
    spec = document.parse(AgentDocument).spec
    assert (spec.templates, spec.hooks) == ({}, {})
    (agent,) = found["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in agent["volumeMounts"]}
    assert {"/etc/heteroscale", str(spec.state_dir)} <= mounted
    for path in (spec.tls.ca, spec.tls.certificate, spec.tls.key):
        assert path is not None
        assert str(path.parent) in mounted


def test_the_daemonsets_rights_are_those_of_the_manual() -> None:
    blocks = re.findall(
        r"```yaml\n(.*?)```", (ground.ROOT / "docs/agent.md").read_text(), re.DOTALL
    )
    told = [one for text in blocks for one in yaml.safe_load_all(text) if "rules" in (one or {})]
    assert [one["rules"] for one in told] == [manifests()["ClusterRole"]["rules"]]
