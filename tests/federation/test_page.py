"""docs/federation.md, tried from its first line to its last as a new user would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heteroscale_workbench.router import free_port
from tests.docs.reference import DOCS

pytestmark = pytest.mark.process
PAGE = (DOCS / "federation.md").read_text(encoding="utf-8")
PATIENCE = 120.0
BIN = Path(sys.executable).parent


class User:
    """Types what the page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, http = free_port(), free_port()
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
        words = [str(BIN / "heteroscale"), "get", "services"]
        return (
            subprocess.run(words, env=self.environ, capture_output=True, check=False).returncode
            == 0
        )

    def clusters(self) -> dict[str, dict[str, Any]]:
        told = json.loads(self.types("heteroscale get clusters -o json"))["clusters"]
        return {one["name"]: one for one in told}

    def states(self) -> dict[str, str]:
        told = json.loads(self.types("heteroscale get instances -o json"))["instances"]
        words = {one["instance_id"]: one["state"] for one in told}
        return {key: word.removeprefix("INSTANCE_STATE_") for key, word in words.items()}

    def until(self, fact: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if fact():
                return
        raise AssertionError(f"never: {what}; {(self.folder / 'log').read_text()}")

    def until_counted(self, **wanted: int) -> None:
        """Wait until the clusters have so many instances."""

        def there() -> bool:
            return {k: sum(c["instances"].values()) for k, c in self.clusters().items()} == wanted

        self.until(there, str(wanted))

    def said(self) -> str:
        """Return what was said of the last placement."""
        told = json.loads(self.types("heteroscale get decisions chat --acted -o json"))
        return str(told["decisions"][0]["inputs"]["placement"])


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

    user.until(lambda: {c["state"] for c in user.clusters().values()} == {"up"}, "all are up")
    typed(first)
    user.until_counted(east=0, south=0, west=3)
    assert "sub-cluster west" in user.said()
    assert "costs" in user.said()

    typed(spread)
    user.until_counted(east=3, south=0, west=3)
    before = user.states()

    typed(down)
    user.until(lambda: user.clusters()["west"]["silent_nodes"] == 2, "west is not heard")
    west = user.clusters()["west"]
    assert (west["state"], west["instances"]) == ("down", {"chat": 3})
    assert "nobody answers while west-is-down is there" in west["message"]
    user.until(lambda: list(user.states().values()).count("UNKNOWN") == 3, "unknown")

    typed(more)
    user.until(lambda: list(user.states().values()).count("IN_SERVICE") == 6, "launched elsewhere")
    assert "left out: west (silent: 2 of 2 agents are not heard)" in user.said()
    assert user.clusters()["west"]["instances"] == {"chat": 3}

    typed(back)
    user.until(lambda: set(user.states().values()) == {"IN_SERVICE"}, "all in service")
    assert before.keys() <= user.states().keys()
    assert len(user.states()) == 9
