"""What deploy/slurm ships: documents that are valid, and scripts that touch nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from heteroscale.documents import read_one
from heteroscale_agent.config import AgentDocument
from heteroscale_coordinator.config import CoordinatorDocument
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_scheduler_adapters.slurm.settings import options_of

DEPLOY = Path(__file__).parents[2] / "deploy" / "slurm"
OURS = "heteroscale:service=chat"


def test_the_documents_fit_each_other() -> None:
    agent = read_one(DEPLOY / "agent.yaml", "Agent").parse(AgentDocument).spec
    coordinator = read_one(DEPLOY / "coordinator.yaml", "Coordinator").parse(CoordinatorDocument)
    service = read_one(DEPLOY / "service.yaml", "Service").parse(ServiceDocument).spec
    (adapter,) = coordinator.spec.adapters
    options = options_of(adapter.options)
    assert {one.name for one in options.templates} == set(agent.templates)
    for one in options.templates:
        template = agent.templates[one.name]
        assert (template.role.value, template.gpus, template.engine) == (
            (one.role, one.gpus, one.engine)
        )
    for role in service.roles.values():
        assert role.parameters.keys() == agent.templates[role.template].parameters.keys()


@pytest.mark.parametrize("name", ["prolog.sh", "epilog.sh", "engine.sbatch"])
def test_a_shell_can_read_it(name: str) -> None:
    subprocess.run(["sh", "-n", DEPLOY / name], check=True)


@contextmanager
def engine(**environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run what looks like an engine by its environment."""
    process = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], **environ})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_epilog_ends_what_its_job_left_and_nothing_else(tmp_path: Path) -> None:
    gone, others = tmp_path / "heteroscale-hpc.job-42-0-x", tmp_path / "heteroscale-hpc.job-4-0-x"
    gone.mkdir()
    others.mkdir()
    tag = {"HETEROSCALE_INSTANCE_ID": "i-1"}
    with ExitStack() as stack:
        left = stack.enter_context(engine(SLURM_JOB_ID="42", **tag))
        spared = [
            stack.enter_context(engine(SLURM_JOB_ID="4", **tag)),
            stack.enter_context(engine(SLURM_JOB_ID="42")),
            stack.enter_context(engine(**tag)),
        ]
        environ = {**os.environ, "SLURM_JOB_ID": "42", "TMPDIR": str(tmp_path)}
        subprocess.run([DEPLOY / "epilog.sh"], check=True, env=environ, timeout=60)
        assert left.wait(60) == -9
        assert [one.poll() for one in spared] == [None] * 3
    assert list(tmp_path.iterdir()) == [others]


@pytest.mark.parametrize(
    ("comment", "usable", "status"), [(OURS, True, 0), (OURS, False, 1), ("theirs", False, 0)]
)
def test_the_prolog_refuses_only_our_jobs_where_they_cannot_run(
    tmp_path: Path, comment: str, usable: bool, status: int
) -> None:
    config = tmp_path / "agent.yaml"
    spec = {"coordinator": "127.0.0.1:7070"} | ({} if usable else {"coordinate": "c:1"})
    document = {"apiVersion": "heteroscale/v1", "kind": "Agent", "spec": spec}
    config.write_text(yaml.safe_dump(document), "utf-8")
    environ = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_COMMENT": comment,
        "SLURMD_NODENAME": "n1",
        "HETEROSCALE_AGENT_CONFIG": str(config),
    }
    done = subprocess.run(
        [DEPLOY / "prolog.sh"], capture_output=True, text=True, env=environ, check=False, timeout=60
    )
    assert done.returncode == status
    assert ("is not usable on n1" in done.stdout) is bool(status)
    assert ("coordinate" in done.stderr) is bool(status)
