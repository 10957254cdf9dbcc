"""The Coordinator document and the command line over it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from heteroscale.channel import ChannelError
from heteroscale.documents import DocumentError
from heteroscale_coordinator.__main__ import parser, run, settings_of
from heteroscale_coordinator.config import CoordinatorSpec, load
from heteroscale_coordinator.core.rules import Rules

WHOLE = """\
apiVersion: heteroscale/v1
kind: Coordinator
spec:
  listen: 127.0.0.1:7170
  clusterId: lab
  dataDir: /tmp/lab
  http: {listen: ""}
  admission: {hellosPerSecond: 50, takeover: 4s}
  rules: {tick: 1s, reportInterval: 500ms, silentAfter: 3s, lostAfter: 20s}
  log: {format: json}
"""


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "coordinator.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_cores_own() -> None:
    assert CoordinatorSpec().rules == Rules()
    assert CoordinatorSpec().takeover_after == 10.0


def test_a_document_is_read(tmp_path: Path) -> None:
    spec = load(written(tmp_path, WHOLE))
    assert spec.rules == Rules(tick=1.0, report_interval=0.5, silent_after=3.0, lost_after=20.0)
    assert (spec.cluster_id, spec.http.listen, spec.takeover_after) == ("lab", "", 4.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  lissen: 127.0.0.1:1", "did you mean `listen`"),
        ("  listen: nowhere", "spec.listen"),
        ("  rules: {tick: 0s}", "spec.rules.tick"),
        ("  rules: {silentAfter: 5s}", "silentAfter must be longer than reportInterval"),
        ("  rules: {lostAfter: 5s}", "lostAfter is shorter than silentAfter"),
        ("  rules: {partitionShare: 2}", "spec.rules.partitionShare"),
        ("  admission: {hellosPerSecond: 0}", "spec.admission.hellosPerSecond"),
        ("  tls: {certificate: a.pem}", "both `certificate` and `key`"),
        ("  clusterId: 'a b'", "spec.clusterId"),
    ],
)
def test_mistakes_are_said_with_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    text = f"apiVersion: heteroscale/v1\nkind: Coordinator\nspec:\n{line}\n"
    with pytest.raises(DocumentError) as caught:
        load(written(tmp_path, text))
    assert words in str(caught.value)
    assert "coordinator.yaml:4: " in str(caught.value)


@pytest.mark.parametrize("text", ["", WHOLE + "---\n" + WHOLE])
def test_one_document_is_wanted(tmp_path: Path, text: str) -> None:
    with pytest.raises(DocumentError, match="one document of kind Coordinator is wanted"):
        load(written(tmp_path, text))


def test_the_command_line_overrides_the_document(tmp_path: Path) -> None:
    words = ["-c", str(written(tmp_path, WHOLE)), "--listen", "127.0.0.1:1", "--log-level", "debug"]
    spec = settings_of(parser().parse_args([*words, "--http", "127.0.0.1:2"]))
    assert (spec.listen, spec.http.listen) == ("127.0.0.1:1", "127.0.0.1:2")
    assert (spec.log.level, spec.log.format) == ("debug", "json")
    assert spec.cluster_id == "lab"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--listen", "0.0.0.0:7070"], "say --insecure"),
        (["--http", "0.0.0.0:7071"], "say --http-insecure"),
        (["--listen", "nonsense"], "listen: "),
        (["--tls-cert", "a.pem"], "both `certificate` and `key`"),
        (["--cluster-id", ""], "cluster_id: "),
    ],
)
def test_wrong_words_are_said(words: list[str], complaint: str) -> None:
    with pytest.raises(ChannelError, match=complaint):
        settings_of(parser().parse_args(words))


def test_listening_openly_can_be_said_aloud() -> None:
    words = ["--listen", "0.0.0.0:7070", "--insecure", "--http", "[::]:7071", "--http-insecure"]
    assert settings_of(parser().parse_args(words)).insecure


def test_bad_settings_are_one_clear_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "apiVersion: heteroscale/v1\nkind: Coordinator\nspec: {lissen: x}\n")
    assert run(["--config", str(path)]) == 2
    assert run(["--config", str(tmp_path / "nowhere.yaml")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"heteroscale coordinator: {path}:3: spec.lissen: unknown field")
    assert "No such file" in lines[1]


def test_check_says_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "-c", str(written(tmp_path, WHOLE))]) == 0
    assert capsys.readouterr().out.strip().endswith("valid")


def test_a_data_directory_that_cannot_be_had_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = written(tmp_path, "no folder")
    assert run(["check", "--data-dir", str(blocked)]) == 0
    assert run(["--data-dir", str(blocked), "--http", ""]) == 1
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("heteroscale")
    ]
    assert "data directory" in line
