"""docs/federation.md, tried from its first line to its last as a new user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from heteroscale.convert import from_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import operator_pb2_grpc
from heteroscale.words import InstanceState
from heteroscale_workbench.router import free_port
from tests.docs.reference import DOCS

pytestmark = pytest.mark.process
PAGE = (DOCS / "federation.md").read_text(encoding="utf-8")
PATIENCE = 120.0
S = InstanceState
BIN = Path(sys.executable).parent


class User:
    """Types what the page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, http = free_port(), free_port()
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub: Any = operator_pb2_grpc.OperatorServiceStub(channel)
        self.environ = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HETEROSCALE_COORDINATOR": f"127.0.0.1:{self.port}",
        }
        listens = f"  listen: 127.0.0.1:{self.port}\n  http: {{listen: '127.0.0.1:{http}'}}\n"
        coordinator, chat = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
        text = coordinator.replace("  dataDir", f"{listens}  dataDir")
        (folder / "coordinator.yaml").write_text(text)
        (folder / "chat.yaml").write_text(chat)

    def types(self, line: str) -> str:
        """Run one line and return what it prints; the coordinator must be up by then."""
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=self.environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout} {done.stderr}"
        return done.stdout

    def reaches(self) -> bool:
        """Return whether the coordinator answers."""
        with suppress(grpc.RpcError):
            return self.stub.ListServices(pb.ListServicesRequest()) is not None
        return False

    def clusters(self) -> dict[str, pb.Cluster]:
        found = self.stub.ListClusters(pb.ListClustersRequest()).clusters
        return {one.name: one for one in found}

    def states(self) -> dict[str, InstanceState | None]:
        found = self.stub.ListInstances(pb.ListInstancesRequest()).instances
        return {one.instance_id: from_wire(InstanceState, one.state) for one in found}

    def count(self, state: InstanceState) -> int:
        return list(self.states().values()).count(state)

    def until(self, fact: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if fact():
                return
            threading.Event().wait(0.1)
        raise AssertionError(f"never: {what}; {(self.folder / 'log').read_text()}")

    def until_counted(self, **wanted: int) -> None:
        """Wait until the clusters have so many instances."""

        def there() -> bool:
            return {k: sum(c.instances.values()) for k, c in self.clusters().items()} == wanted

        self.until(there, str(wanted))

    def said(self) -> str:
        """Return what was said of the last placement."""
        request = pb.ListDecisionsRequest(service="chat", only_acted=True)
        return str(self.stub.ListDecisions(request).decisions[0].inputs["placement"])


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    one = User(tmp_path)
    command = [str(BIN / "heteroscale"), "coordinator", "run", "-c", "coordinator.yaml"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=one.environ, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        one.until(one.reaches, "the coordinator answers")
        yield one
    finally:
        process.terminate()
        process.wait(timeout=60)


def steps() -> list[list[str]]:
    """Return the page's blocks of commands."""
    return [text.splitlines() for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]


def test_the_page_is_right_from_its_first_line_to_its_last(user: User) -> None:
    (check, run), first, spread, down, more, back = steps()
    assert run == "heteroscale coordinator run -c coordinator.yaml", "the fixture did"
    assert "valid" in user.types(check)

    def typed(lines: list[str]) -> None:
        for line in lines:
            user.types(line)

    user.until(lambda: {c.state for c in user.clusters().values()} == {"up"}, "all are up")
    typed(first)
    user.until_counted(east=0, south=0, west=3)
    assert "sub-cluster west" in user.said()
    assert "costs" in user.said()

    typed(spread)
    user.until_counted(east=3, south=0, west=3)
    before = user.states()

    typed(down)
    user.until(lambda: user.clusters()["west"].silent_nodes == 2, "west is not heard")
    west = user.clusters()["west"]
    assert (west.state, dict(west.instances)) == ("down", {"chat": 3})
    assert "nobody answers while west-is-down is there" in west.message
    user.until(lambda: user.count(S.UNKNOWN) == 3, "unknown")

    typed(more)
    user.until(lambda: user.count(S.IN_SERVICE) == 6, "launched elsewhere")
    assert "left out: west (silent: 2 of 2 agents are not heard)" in user.said()
    assert dict(user.clusters()["west"].instances) == {"chat": 3}

    typed(back)
    user.until(lambda: set(user.states().values()) == {S.IN_SERVICE}, "all in service")
    assert before.keys() <= user.states().keys()
    assert len(user.states()) == 9
