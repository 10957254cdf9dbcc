"""Jobs of a real Slurm, found by their comment or by what their processes say."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.discovery import jobs
from heteroscale_agent.probes.source import SourceError
from tests.agent.body_twins import launch
from tests.agent.found_world import FoundWorld
from tests.agent.test_discovery_processes import SERVER
from tests.slurm.cluster import SlurmCluster, slurm_cluster
from tests.slurm.files import four
from tests.slurm.host import WHY_NOT

S = InstanceState
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlurmCluster]:
    async with slurm_cluster(four(), scheduler="builtin") as running:
        monkeypatch.setenv("SLURM_CONF", running.environ["SLURM_CONF"])
        yield running


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def world_of(folder: Path, form: str = "text") -> FoundWorld:
    discovery = {"slurm": {"every": "200ms", "timeout": "20s", "format": form}}
    return FoundWorld(folder / "state", discovery, slurm={"nodeName": "node1"})


async def submit(cluster: SlurmCluster, script: str, *options: str) -> str:
    out = f"--output={cluster.folder}/job-%j.out"
    said = await cluster.run("sbatch", "--parsable", "-w", "node1", out, *options, "--wrap", script)
    return said.strip()


async def test_jobs_come_and_go(cluster: SlurmCluster, tmp_path: Path, port: int) -> None:
    world = world_of(tmp_path)
    await world.body.start()
    word = f"heteroscale:service=chat,role=decode,port={port},engine=sglang"
    job = await submit(cluster, "sleep 1000", "--comment", word, "--gres=gpu:2")
    other = await submit(cluster, "sleep 1000", "-J", "training")
    await world.until(lambda: f"job/{job}" in world.found() and _gpus(world, job) == (0, 1))
    status = world.found()[f"job/{job}"]
    assert (status.service, status.role) == ("chat", Role.DECODE)
    assert status.endpoint == f"http://127.0.0.1:{port}"
    await world.until_state(status.instance_id, S.IN_SERVICE)
    assert f"job/{other}" not in world.found()
    refused = await world.do(launch(gpu_indices=(1,)), "mine")
    assert refused.outcome is Outcome.REFUSED
    assert status.instance_id in refused.message
    await cluster.run("scancel", job)
    await world.until_state(status.instance_id, S.TERMINATED)
    assert world.status(status.instance_id).message == "its job is gone"
    await world.body.close()


async def test_a_job_whose_processes_say_what_they_are(
    cluster: SlurmCluster, tmp_path: Path, port: int
) -> None:
    world = world_of(tmp_path)
    await world.body.start()
    (tmp_path / "serve").write_text(SERVER)
    said = f"export HETEROSCALE_SERVICE=mail HETEROSCALE_ROLE=prefill; cd {tmp_path}; "
    engine = f"exec -a vllm {sys.executable} serve tiny --port {port}"
    job = await submit(cluster, f"bash -c '{said}{engine}'", "--gres=gpu:1")
    await world.until(lambda: f"job/{job}" in world.found())
    status = world.found()[f"job/{job}"]
    assert (status.service, status.role, status.gpu_indices) == ("mail", Role.PREFILL, (0,))
    assert status.endpoint == f"http://127.0.0.1:{port}"
    await cluster.run("scancel", job)
    await world.until_state(status.instance_id, S.TERMINATED)
    await world.body.close()


async def test_a_controller_that_is_down_takes_no_engine_away(
    cluster: SlurmCluster, tmp_path: Path, port: int
) -> None:
    word = f"heteroscale:service=chat,port={port}"
    job = await submit(cluster, "sleep 1000", "--comment", word, "--gres=gpu:1")
    world = world_of(tmp_path, "json")
    await world.body.start()
    await world.until(lambda: f"job/{job}" in world.found())
    assert world.found()[f"job/{job}"].gpu_indices == (0,)
    await cluster.stop_controller(kill=True)
    await world.until(lambda: "no word of its job" in world.found()[f"job/{job}"].message)
    assert world.found()[f"job/{job}"].state is S.IN_SERVICE
    with pytest.raises(SourceError):
        jobs.ask("node1", "text", 20)
    await world.body.close()


def _gpus(world: FoundWorld, job: str) -> tuple[int, ...]:
    return world.found()[f"job/{job}"].gpu_indices


def test_the_form_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="format"):
        AgentSpec.model_validate({"coordinator": "x:1", "discovery": {"slurm": {"format": "xml"}}})
