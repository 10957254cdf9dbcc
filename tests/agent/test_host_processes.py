"""Real processes: started, found, watched and stopped, and never the wrong one."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from heteroscale_agent.config import PortRange
from heteroscale_agent.hands import procfs
from heteroscale_agent.hands.portpool import NoPortsError, draw, is_free
from heteroscale_agent.hands.process import Exit, HostProcesses, Ident, Order, SpawnError

ENGINE = str(Path(__file__).with_name("tiny_engine.py"))


class Doorbell:
    """A socket that an engine rings once it is up; nobody sleeps."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(30)
        self.env = {"TINY_CALL": f"127.0.0.1:{self._socket.getsockname()[1]}"}

    def wait(self) -> int:
        connection, _ = self._socket.accept()
        with connection:
            return int(connection.recv(100))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def bell() -> Iterator[Doorbell]:
    made = Doorbell()
    yield made
    made.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[HostProcesses]:
    made = HostProcesses(tmp_path, home=tmp_path)
    yield made
    for ident, child in list(made._children.items()):
        made.kill(ident)
        child.wait(30)
    made.release()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def engine(bell: Doorbell, *options: str, name: str = "i1") -> Order:
    command = [sys.executable, "-S", ENGINE, str(free_port()), "decode", *options]
    return Order(name, command, bell.env)


def script(text: str, name: str = "i1") -> Order:
    return Order(name, [sys.executable, "-S", "-c", text], {})


def ended(pid: int) -> None:
    """Wait until a child has ended, without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_an_engine_has_its_own_session_log_and_tag(
    processes: HostProcesses, bell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HETEROSCALE_SECRET", "none of its business")
    ident = processes.spawn(engine(bell))
    assert bell.wait() == ident.pid
    assert os.getsid(ident.pid) == ident.pid != os.getsid(0)
    env = psutil.Process(ident.pid).environ()
    assert env[procfs.TAG] == "i1"
    assert env["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    assert "HETEROSCALE_SECRET" not in env
    files = {Path(f"/proc/{ident.pid}/fd/{n}").readlink().name for n in (0, 1, 2)}
    assert files == {"null", "i1.log"}
    assert processes.poll(ident) is None
    assert "serving on" in processes.log_tail("i1")


def test_exit_codes_and_signals_are_told(processes: HostProcesses) -> None:
    for text, expected in (
        ("raise SystemExit(3)", Exit(3)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Exit(-9)),
    ):
        ident = processes.spawn(script(text))
        ended(ident.pid)
        assert processes.poll(ident) == expected
        # Reaped: a second look finds nothing, and knows no code.
        assert processes.poll(ident) == Exit(None)
    assert str(Exit(3)) == "exited with code 3"
    assert str(Exit(-9)) == "killed by SIGKILL"


def test_term_reaches_the_leader(processes: HostProcesses, bell: Doorbell) -> None:
    ident = processes.spawn(engine(bell))
    bell.wait()
    processes.terminate(ident)
    ended(ident.pid)
    assert processes.poll(ident) == Exit(0)


def test_kill_takes_the_whole_session_also_after_its_leader_died(
    processes: HostProcesses, bell: Doorbell
) -> None:
    ident = processes.spawn(engine(bell, "--worker", "--ignore-term"))
    bell.wait()
    (worker,) = psutil.Process(ident.pid).children()
    os.kill(ident.pid, signal.SIGKILL)
    ended(ident.pid)
    assert processes.poll(ident) == Exit(-9)
    assert worker.is_running()
    processes.kill(ident)
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_a_pid_used_anew_is_somebody_else(processes: HostProcesses, bell: Doorbell) -> None:
    ident = processes.spawn(engine(bell))
    bell.wait()
    stranger = Ident(ident.pid, ident.start_ticks - 1)
    assert processes.poll(stranger) == Exit(None)
    processes.terminate(stranger)
    processes.kill(stranger)
    assert processes.poll(ident) is None
    # And one that started after, as after a wrap of all pids.
    processes.kill(Ident(ident.pid, ident.start_ticks + 1))
    assert processes.poll(ident) is None


def test_another_agent_process_finds_it_by_pid_or_tag(
    processes: HostProcesses, bell: Doorbell, tmp_path: Path
) -> None:
    ident = processes.spawn(engine(bell, name="i-found"))
    bell.wait()
    other = HostProcesses(tmp_path, home=tmp_path)
    assert other.find("i-found") == ident
    assert other.find("i-foun") is None
    assert other.poll(ident) is None
    other.terminate(ident)
    ended(ident.pid)
    # A zombie has ended, whoever its parent is.
    assert other.poll(ident) == Exit(None)
    assert other.find("i-found") is None


def test_an_agent_finds_its_own_engines_and_no_others(
    processes: HostProcesses, bell: Doorbell, tmp_path: Path
) -> None:
    ident = processes.spawn(engine(bell, "--worker", name="i-stray"))
    bell.wait()
    (found,) = processes.scan()
    assert (found.instance_id, found.ident) == ("i-stray", ident)
    assert found.environ["TINY_CALL"] == bell.env["TINY_CALL"]
    (tmp_path / "same").symlink_to(tmp_path)
    (again,) = HostProcesses(tmp_path, home=tmp_path / "same").scan()
    assert again == found
    assert HostProcesses(tmp_path, home=tmp_path / "other").scan() == []


def test_what_outlived_its_leader_is_found_by_its_session(
    processes: HostProcesses, bell: Doorbell
) -> None:
    ident = processes.spawn(engine(bell, "--worker", name="i-stray"))
    bell.wait()
    (worker,) = psutil.Process(ident.pid).children()
    os.kill(ident.pid, signal.SIGKILL)
    ended(ident.pid)
    assert processes.poll(ident) == Exit(-9)
    (found,) = processes.scan()
    assert (found.instance_id, found.ident.pid) == ("i-stray", ident.pid)
    processes.kill(found.ident)
    psutil.wait_procs([worker], timeout=30)
    assert processes.scan() == []


def test_an_engine_that_sets_its_title_keeps_its_tags(processes: HostProcesses) -> None:
    ident = processes.spawn(script("import os; print(os.environ['SPT_NOENV'])"))
    ended(ident.pid)
    assert processes.log_tail("i1") == "1"


@pytest.mark.parametrize(
    "order",
    [
        Order("i1", ["/nonexistent/engine"], {}),
        Order("i1", ["/etc/passwd"], {}),
        Order("i1", ["true"], {}, user="nobody-of-that-name"),
        Order("i1", ["true", "nul\x00"], {}),
    ],
)
def test_what_cannot_be_started_is_said(processes: HostProcesses, order: Order) -> None:
    with pytest.raises(SpawnError, match="cannot start"):
        processes.spawn(order)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_an_engine_runs_as_its_user(processes: HostProcesses) -> None:
    order = Order("i1", ["/bin/sh", "-c", "id -un; echo $HOME; id -Gn"], {}, user="nobody")
    ident = processes.spawn(order)
    ended(ident.pid)
    assert processes.poll(ident) == Exit(0)
    assert processes.log_tail("i1").startswith("nobody | /")
    assert "root" not in processes.log_tail("i1")


def test_the_tail_of_a_log_is_short_and_printable(processes: HostProcesses, tmp_path: Path) -> None:
    assert processes.log_tail("nobody") == ""
    noise = b"\x00\xff\x1b[31m" + b"x" * 10_000 + b"\n"
    (tmp_path / "i1.log").write_bytes(noise + b"\n\nfirst\nsecond\x07\n")
    tail = processes.log_tail("i1")
    assert tail.endswith("first | second")
    assert len(tail) <= 600
    assert tail.isprintable()


def test_logs_are_removed_by_name_and_nothing_else_is(
    processes: HostProcesses, tmp_path: Path
) -> None:
    for name in ("i1.log", "i2.log", "system.log"):
        (tmp_path / name).write_text("x")
    (tmp_path / "i3.log").mkdir()
    processes.drop_logs(["i1", "gone", "i3"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i2.log", "i3.log", "system.log"]


def test_ports_are_drawn_from_the_range_and_never_twice() -> None:
    ports = PortRange(first=22000, last=22009)
    rng = random.Random(1)  # noqa: S311
    drawn = draw(ports, 3, {22001}, rng=rng, free=lambda port: port != 22005)
    assert len(set(drawn)) == 3
    assert not {22001, 22005} & set(drawn)
    everything = draw(ports, 8, {22001}, rng=rng, free=lambda port: port != 22005)
    assert len(everything) == 8
    last = {22000, 22002, 22003, 22004, 22006}
    for count, used in ((3, set[int]()), (4, last)):
        fresh = draw(ports, count, {22001}, rng=rng, last=last, free=lambda port: port != 22005)
        assert {22007, 22008, 22009} <= set(fresh)
        assert bool(set(fresh) & last) is bool(used)
    with pytest.raises(NoPortsError, match="no 9 free ports in 22000-22009"):
        draw(ports, 9, {22001}, rng=rng, free=lambda port: port != 22005)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not is_free(taken.getsockname()[1])
    assert is_free(free_port())
