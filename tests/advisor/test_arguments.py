"""The command line: what is wrong is said with what would be right, before anything is asked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from heteroscale.words import Role
from heteroscale_advisor.arguments import options
from heteroscale_advisor.ask import MOST, step_for
from heteroscale_advisor.command import execute, plain
from heteroscale_advisor.files import UsageError

NOW = 1_700_000_037.0
BASE = ("--prometheus", "http://p:9090", "--service", "chat")
SIGNALS = """
apiVersion: heteroscale/v1
kind: Signals
metadata: {name: chat}
spec:
  url: http://mimir/prometheus
  tenant: team-a
  select: namespace="llm"
  queries: {running: 'sum by (pod) (x{$select})'}
---
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: p}
    decode: {template: d}
"""


def failed(*words: str) -> tuple[int, str]:
    console = Console(file=io.StringIO())
    code = execute(words, io.StringIO(), console, NOW, {})
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_defaults() -> None:
    asked = options(BASE, NOW)
    assert asked.wishes.since == 86_400
    assert asked.wishes.step == 60
    assert asked.wishes.end == 1_699_999_980
    assert asked.wishes.gpus == {}


def test_what_is_given() -> None:
    asked = options(
        (*BASE, "--gpus", "prefill=4,decode=8", "--decode", 'pod=~"d.*"', "--slo-tbt", "50ms"), NOW
    )
    assert asked.wishes.gpus == {Role.PREFILL: 4, Role.DECODE: 8}
    assert asked.wishes.prometheus.roles == {Role.DECODE: 'pod=~"d.*"'}
    assert asked.wishes.tbt == 0.05


def test_files_hold_the_prometheus_and_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(SIGNALS)
    wishes = options(("-f", str(file), "--tenant", "team-b"), NOW).wishes
    assert wishes.service == "chat"
    assert wishes.prometheus.url == "http://mimir/prometheus"
    assert wishes.prometheus.tenant == "team-b"
    assert wishes.prometheus.queries == {"running": "sum by (pod) (x{$select})"}
    assert wishes.spec is not None


@pytest.mark.parametrize("hours", [1, 6, 24, 72, 168, 744])
def test_slots_are_never_too_many(hours: int) -> None:
    assert hours * 3600 / step_for(hours * 3600) <= MOST


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--service", "chat"), "--prometheus URL is missing"),
        (("--prometheus", "http://p"), "--service NAME is missing"),
        ((*BASE, "--since", "1m"), "between 10m and 31d"),
        ((*BASE, "--since", "1h", "--step", "30m"), "--step"),
        (("--prometheus", "p:9090", "--service", "x"), "url: 'p:9090' is no address"),
        ((*BASE, "--select", "job=a"), "select: 'job=a' is no matcher"),
    ],
)
def test_wrong_usage_is_refused(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError) as error:
        options(words, NOW)
    assert says in str(error.value)
    assert failed(*words) == (2, f"error: {error.value}\n")


@pytest.mark.parametrize("text", ["prefill", "prefill=x", "prefill=0", "ffn=2", "prefill=-1"])
def test_a_number_for_each_role(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options((*BASE, "--gpus", text), NOW)
    assert "write prefill=VALUE,decode=VALUE" in capsys.readouterr().err


def test_other_documents_and_other_services_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(SIGNALS.replace("kind: Signals", "kind: Fleet"))
    with pytest.raises(UsageError, match="write Service, Signals or Coordinator"):
        options((*BASE, "-f", str(file)), NOW)
    file.write_text(
        "apiVersion: heteroscale/v1\nkind: Service\nmetadata: {name: x}\n"
        "spec:\n  roles:\n    attention: {template: a}\n    ffn: {template: f}\n"
        '    decode: {template: d}\n  innerRatio: "2:1"\n'
    )
    with pytest.raises(UsageError, match="split into attention and ffn"):
        options((*BASE, "-f", str(file)), NOW)


def test_where_every_instance_does_both_it_is_said(tmp_path: Path) -> None:
    assert not options(BASE, NOW).wishes.aggregated
    asked = options((*BASE, "--aggregated", "--gpus", "aggregated=8"), NOW).wishes
    assert asked.aggregated
    assert asked.gpus == {Role.AGGREGATED: 8}
    file = tmp_path / "x.yaml"
    file.write_text(
        "apiVersion: heteroscale/v1\nkind: Service\nmetadata: {name: x}\n"
        "spec:\n  roles:\n    aggregated: {template: a}\n"
    )
    assert options((*BASE, "-f", str(file)), NOW).wishes.aggregated
    with pytest.raises(UsageError, match="not both"):
        options((*BASE, "--aggregated", "--decode", 'pod=~"d.*"'), NOW)


def test_control_signs_of_strangers_do_not_reach_the_terminal() -> None:
    assert plain("pod \x1b[31mred\x07\nθ × 2") == "pod ?[31mred?\nθ × 2"


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    code, text = failed("--prometheus", "http://127.0.0.1:1", "--service", "x", "--quiet")
    assert code == 1
    assert "http://127.0.0.1:1: cannot be reached" in text
    code, text = failed(*BASE, "--html", str(tmp_path / "no" / "x.html"))
    assert code == 2
    assert "there is no folder" in text


COORDINATOR = """
apiVersion: heteroscale/v1
kind: Coordinator
spec:
  prometheus:
    main: {url: "http://main:9090"}
    other: {url: "http://other:9090", tenant: team-a, timeout: 3s, interval: 5s}
"""
LIVE = """
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  actuation: {by: external}
  signals:
    source: prometheus
    server: other
    select: namespace="llm"
    roles: {decode: 'pod=~"d.*"'}
    queries: {running: 'sum by (pod) (x{$select})'}
  roles: {prefill: {}, decode: {}}
"""


def test_a_service_tells_of_its_own_signals(tmp_path: Path) -> None:
    service, coordinator = tmp_path / "service.yaml", tmp_path / "coordinator.yaml"
    service.write_text(LIVE)
    coordinator.write_text(COORDINATOR)
    both = ("-f", str(service), "-f", str(coordinator))
    found = options(both, NOW).wishes.prometheus
    assert (found.url, found.tenant) == ("http://other:9090", "team-a")
    # How fast a live look must be answered says nothing of a day's history.
    assert found.timeout == 30.0
    assert found.select == 'namespace="llm"'
    assert found.roles == {Role.DECODE: 'pod=~"d.*"'}
    assert found.queries == {"running": "sum by (pod) (x{$select})"}

    given = options((*both, "--prometheus", "http://p", "--select", 'job="x"'), NOW)
    # A login goes to the server that it is of, and to no other.
    assert (given.wishes.prometheus.url, given.wishes.prometheus.tenant) == ("http://p", None)
    assert given.wishes.prometheus.select == 'job="x"'
    assert given.wishes.prometheus.queries == found.queries


def test_a_signals_document_goes_before_the_service(tmp_path: Path) -> None:
    service, signals = tmp_path / "service.yaml", tmp_path / "signals.yaml"
    service.write_text(LIVE)
    signals.write_text(SIGNALS.partition("---")[0])
    found = options(("-f", str(service), "-f", str(signals)), NOW).wishes.prometheus
    assert found.url == "http://mimir/prometheus"
    assert found.roles == {Role.DECODE: 'pod=~"d.*"'}


def test_a_server_that_no_document_knows_is_asked_for(tmp_path: Path) -> None:
    service, coordinator = tmp_path / "service.yaml", tmp_path / "coordinator.yaml"
    service.write_text(LIVE)
    with pytest.raises(UsageError, match=r"'other' that `signals` names .* known: none"):
        options(("-f", str(service)), NOW)
    coordinator.write_text(COORDINATOR)
    with pytest.raises(UsageError, match=r"one of several .* known: main, other"):
        options(("--service", "chat", "-f", str(coordinator)), NOW)
    one = COORDINATOR.partition("    other")[0]
    coordinator.write_text(one)
    asked = options(("--service", "chat", "-f", str(coordinator)), NOW)
    assert asked.wishes.prometheus.url == "http://main:9090"
