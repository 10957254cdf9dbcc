"""Real processes whose command lines are engines', found in /proc, with real metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from heteroscale.words import InstanceState, Outcome, Role, ScrapeQuality
from heteroscale_agent.discovery.procs import Look, ProcessScan, addresses
from heteroscale_agent.hands.procfs import TAG
from heteroscale_agent.model import GpuProcess, GpuReading
from tests.agent.body_twins import launch
from tests.agent.found_world import FoundWorld

S = InstanceState
SERVER = """
import os, signal, socket, sys, time
port = int(sys.argv[sys.argv.index("--port") + 1])
served = socket.create_server(("127.0.0.1", port))
if "--child" in sys.argv and os.fork() == 0:
    while True:
        signal.pause()
print("ready", flush=True)
while True:
    signal.pause()
"""


class Engines:
    """Starts processes that look like engines, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Whoever looks at this host now must not take them for its own.
        self.model = f"tiny-{uuid4().hex[:12]}"
        # `vllm serve …` is then Python that runs the file `serve`, under the name of vllm.
        (folder / "serve").write_text(SERVER)
        module = folder / "sglang"
        module.mkdir()
        (module / "launch_server.py").write_text(SERVER)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CUDA")}
        process = subprocess.Popen(
            argv,
            executable=sys.executable,
            cwd=self.folder,
            env={**plain, "PYTHONPATH": str(self.folder), **(env or {})},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def vllm(
        self, port: int, *more: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return self.start("vllm", "serve", self.model, "--port", str(port), *more, env=env)

    def stop(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    running = Engines(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
async def world(tmp_path: Path, engines: Engines) -> AsyncIterator[FoundWorld]:
    asked = {"processes": {"every": "20ms"}, "services": {engines.model: "chat"}}
    running = FoundWorld(tmp_path / "state", asked)
    await running.body.start()
    yield running
    await running.body.close()


KV = '{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'


async def test_an_engine_comes_and_goes(world: FoundWorld, engines: Engines, port: int) -> None:
    world.eyes.quality = ScrapeQuality.MISSING
    process = engines.vllm(port, "--kv-transfer-config", KV, env={"CUDA_VISIBLE_DEVICES": "1,2"})
    origin = f"process/{process.pid}"
    await world.until(lambda: origin in world.found())
    status = world.found()[origin]
    assert (status.state, status.service, status.role) == (S.WARMING, "chat", Role.DECODE)
    assert (status.endpoint, status.gpu_indices) == (f"http://127.0.0.1:{port}", (1, 2))
    world.eyes.quality = ScrapeQuality.OK
    world.clock.now += 2
    await world.until_state(status.instance_id, S.IN_SERVICE)
    process.kill()
    process.wait()
    await world.until_state(status.instance_id, S.TERMINATED)
    assert world.states(status.instance_id) == ["warming", "in_service", "terminated"]
    assert world.status(status.instance_id).message == "its process is gone"


async def test_one_that_never_answers_is_out_of_service(
    world: FoundWorld, engines: Engines, port: int
) -> None:
    world.eyes.quality = ScrapeQuality.MISSING
    origin = f"process/{engines.vllm(port).pid}"
    await world.until(lambda: origin in world.found())
    world.clock.now += 901
    await world.until(lambda: world.found()[origin].state is S.WITHDRAWN)
    world.eyes.quality = ScrapeQuality.OK
    world.clock.now += 2
    await world.until(lambda: world.found()[origin].state is S.IN_SERVICE)
    world.eyes.quality = ScrapeQuality.STALE
    await world.passes(5)
    assert world.found()[origin].state is S.IN_SERVICE, "from then on its metrics tell"


async def test_its_gpus_are_not_launched_upon(
    world: FoundWorld, engines: Engines, port: int
) -> None:
    process = engines.vllm(port, env={"CUDA_VISIBLE_DEVICES": "0"})
    origin = f"process/{process.pid}"
    await world.until(lambda: origin in world.found())
    refused = await world.do(launch(gpu_indices=(0,)), "mine")
    assert refused.outcome is Outcome.REFUSED
    assert world.found()[origin].instance_id in refused.message
    assert (await world.do(launch(gpu_indices=(3,)), "mine-2")).outcome is Outcome.DONE


def readings(*pids: tuple[int, ...]) -> tuple[GpuReading, ...]:
    return tuple(
        GpuReading(process_count=len(on), processes=tuple(map(GpuProcess, on))) for on in pids
    )


async def test_the_driver_tells_which_gpus_it_uses(
    world: FoundWorld, engines: Engines, port: int
) -> None:
    process = engines.vllm(port)
    origin = f"process/{process.pid}"
    await world.until(lambda: origin in world.found())
    assert world.found()[origin].gpu_indices == ()
    refused = await world.do(launch(gpu_indices=(3,)), "mine")
    assert refused.outcome is Outcome.REFUSED, "which it holds is not known"
    world.eyes.readings = readings((), (1,), (process.pid,), ())
    await world.until(lambda: world.found()[origin].gpu_indices == (2,))
    assert (await world.do(launch(gpu_indices=(3,)), "mine-2")).outcome is Outcome.DONE


async def test_one_on_no_gpu_stands_in_nobodys_way(
    world: FoundWorld, engines: Engines, port: int
) -> None:
    world.eyes.readings = readings((), (), (), ())
    origin = f"process/{engines.vllm(port).pid}"
    await world.until(
        lambda: origin in world.found() and world.found()[origin].state is S.IN_SERVICE
    )
    world.clock.now += 2
    await world.body.tick()
    assert (await world.do(launch(gpu_indices=(3,)), "mine")).outcome is Outcome.DONE


async def test_our_own_and_those_without_a_service_are_left_alone(
    world: FoundWorld, engines: Engines, port: int
) -> None:
    tagged = engines.vllm(port, env={TAG: "i-1"})
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        other = one.getsockname()[1]
    unnamed = engines.start(
        "python", "-m", "sglang.launch_server", "--model-path", "/m/other", "--port", str(other)
    )
    finder = world.body._finder
    await world.until(
        lambda: any(one.origin.endswith(f"/{unnamed.pid}") for one in finder.unplaced)
    )
    assert world.found().keys().isdisjoint({f"process/{tagged.pid}", f"process/{unnamed.pid}"})
    (why,) = [one.why for one in finder.unplaced if one.origin.endswith(f"/{unnamed.pid}")]
    assert "discovery.services" in why
    assert "/m/other" in why


async def test_it_can_say_itself_what_it_is(world: FoundWorld, engines: Engines, port: int) -> None:
    environ = {"HETEROSCALE_SERVICE": "mail", "HETEROSCALE_ROLE": "prefill"}
    environ["CUDA_VISIBLE_DEVICES"] = ""
    process = engines.start(
        *("python3", "-m", "sglang.launch_server", "--model-path", "x", "--port", str(port)),
        env=environ,
    )
    origin = f"process/{process.pid}"
    await world.until(lambda: origin in world.found())
    assert (world.found()[origin].service, world.found()[origin].role) == ("mail", Role.PREFILL)


# ---- looks ------------------------------------------------------------------------------------


def mine(look: Look, *pids: int) -> list[int]:
    return [one.pid for one in look.engines if one.pid in pids]


def test_a_fork_of_an_engine_is_a_part_of_it(engines: Engines, port: int) -> None:
    process = engines.vllm(port, "--child")
    look = ProcessScan().look({})
    ours = [one for one in look.engines if one.port == port]
    assert [one.pid for one in ours] == [process.pid]
    assert len(look.families[process.pid]) == 2


def test_any_program_that_says_service_and_port_is_an_engine(engines: Engines, port: int) -> None:
    (engines.folder / "own").write_text(SERVER)
    environ = {"HETEROSCALE_SERVICE": "chat", "HETEROSCALE_PORT": str(port)}
    plain = engines.start("python", "own", "--port", str(port), env=environ)
    silent = engines.start("python", "own", "--port", str(port + 1) if port < 65535 else "1")
    look = ProcessScan().look({})
    assert mine(look, plain.pid, silent.pid) == [plain.pid]
    assert f"pid:{plain.pid}" in "".join(look.said)


def test_a_second_look_says_the_same(engines: Engines, port: int) -> None:
    process = engines.vllm(port)
    scan = ProcessScan()
    first, second = scan.look({}), scan.look({})
    assert mine(first, process.pid) == mine(second, process.pid) == [process.pid]


def tree(
    root: Path, pid: int, *, argv: str, cgroup: str, environ: str = "", parent: int = 1
) -> None:
    folder = root / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (a) b) S {parent} 1 1 " + "0 " * 15 + "4200 0\n")
    (folder / "cmdline").write_text(argv.replace(" ", "\0") + "\0")
    (folder / "environ").write_text(environ.replace(" ", "\0"))
    (folder / "cgroup").write_text(cgroup)
    (root / "uptime").write_text("100000.0 1.0\n")


UID = "0e5b2f3c-7c11-4d3f-9a52-1b2c3d4e5f60"
FLAT = UID.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "owner"),
    [
        (
            f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/cri-abc.scope",
            f"pod:{UID}",
        ),
        (f"5:memory:/kubepods/burstable/pod{UID}/abc\n0::/", f"pod:{UID}"),
        (
            f"0::/kubelet.slice/kubelet-kubepods-besteffort-pod{FLAT}.slice/x",
            f"pod:{UID}",
        ),
        ("0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0", "job:1234"),
        ("4:memory:/slurm/uid_1000/job_99/step_batch/task_0\n", "job:99"),
        ("4:memory:/slurm_node1/uid_1000/job_99/step_batch\n", "job:99"),
        ("0::/system.slice/ssh.service", ""),
    ],
)
def test_whose_a_process_is(tmp_path: Path, cgroup: str, owner: str) -> None:
    tree(tmp_path, 77, argv="vllm serve tiny --port 8000", cgroup=cgroup)
    look = ProcessScan(tmp_path).look({})
    (one,) = look.engines
    assert one.owner == (owner or "pid:77.4200")
    assert set(look.owners) == ({owner} if owner else set())


def test_a_job_by_its_environment_and_its_gpus(tmp_path: Path) -> None:
    environ = "SLURM_JOB_ID=12 SLURM_JOB_GPUS=4,5 CUDA_VISIBLE_DEVICES=0"
    tree(
        tmp_path,
        70,
        argv="/bin/bash job.sh",
        cgroup="0::/",
        environ="SLURM_JOB_ID=12 SLURM_JOB_GPUS=4,5",
    )
    tree(tmp_path, 77, argv="vllm serve m", cgroup="0::/", environ=environ, parent=70)
    look = ProcessScan(tmp_path).look({})
    (one,) = look.engines
    assert (one.owner, one.gpus) == ("job:12", (4,))
    assert look.owners["job:12"].gpus == (4, 5)
    assert look.owners["job:12"].pids == {70, 77}


def test_who_execs_meanwhile_is_no_engine_with_what_it_was_before(tmp_path: Path) -> None:
    """What execs between the reading of one file and of the next; it is read again at the next look."""
    tree(tmp_path, 77, argv="", cgroup="0::/", environ="SLURM_JOB_GPUS=4")
    line, environ = (tmp_path / "77" / name for name in ("cmdline", "environ"))
    line.unlink()
    os.mkfifo(line)

    def execs() -> None:
        with line.open("wb") as file:  # opens once the look reads it
            environ.write_text("CUDA_VISIBLE_DEVICES=0")
            file.write(b"vllm\0serve\0m\0")

    program = Thread(target=execs)
    program.start()
    look = ProcessScan(tmp_path).look({})
    program.join()
    assert [one.gpus for one in look.engines] == [(0,)]


def test_a_process_without_files_is_nobody(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "self").mkdir()
    tree(tmp_path, 13, argv="", cgroup="")
    (tmp_path / "14").mkdir()
    (tmp_path / "14" / "stat").write_text("nonsense")
    assert ProcessScan(tmp_path).look({}).engines == ()


def test_this_hosts_addresses() -> None:
    assert {"127.0.0.1", "::1"} <= addresses()
    assert all("%" not in one for one in addresses())


async def test_a_look_costs_little() -> None:
    """The second look reads one small file of each process that is not young."""
    scan = ProcessScan()
    await asyncio.to_thread(scan.look, {})
    known = dict(scan._known)
    await asyncio.to_thread(scan.look, {})
    kept = [key for key, proc in scan._known.items() if known.get(key) is proc]
    assert kept, "processes that have been there for long are not read again"
