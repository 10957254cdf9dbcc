"""Lines of a metrics text: what prometheus_client makes of them."""

from __future__ import annotations

import io
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from heteroscale_agent.probes.engines.text import FamilyFilter, MetricsTextError, parse

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.txt"))
# Names that begin with two underscores are Prometheus' own.
KEYS = st.from_regex(r"_?[a-zA-Z][a-zA-Z0-9_]{0,9}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\n\r", codec="utf-8") | st.just("\n"))


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def oracle(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    # Without its comments: a declared counter would be called `…_total`, whatever the line says.
    text = "".join(line for line in io.StringIO(text, newline="\n") if not line.startswith("#"))
    for sample in chain.from_iterable(f.samples for f in text_string_to_metric_families(text)):
        found.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    return found


def ours(names: set[str], text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    heads, values = FamilyFilter(names).lines(text)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for head, value in zip(parse(heads), values, strict=True):
        found.setdefault(head.name, []).append((dict(head.labels), value))
    return found


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_every_line_of_a_real_answer_is_read_as_prometheus_reads_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = oracle(text)
    assert len(expected) > 5
    # As text: some gauges are NaN, which equals nothing.
    assert repr(sorted(ours(set(expected), text).items())) == repr(sorted(expected.items()))


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from(["", ",", " ", ", "]))
def test_labels_are_read_as_prometheus_reads_them(labels: dict[str, str], tail: str) -> None:
    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    tail = tail if labels else ""
    line = f"a{{{inside}{tail}}} 5\n"
    assert ours({"a"}, line) == {"a": [(labels, 5.0)]}
    assert oracle(line) == {"a": [(labels, 5.0)]}


@pytest.mark.parametrize(
    "inside", ['x="1" y="2"', "x=1", 'x="1', 'x="1",,', ',x="1"', 'x="1",x="2"', '="1"', "x", '"']
)
def test_malformed_labels_are_refused(inside: str) -> None:
    with pytest.raises(MetricsTextError, match="malformed series"):
        ours({"a"}, f"a{{{inside}}} 5\n")


def test_very_many_labels_are_read_in_one_go() -> None:
    inside = ",".join(f'l{number}="x"' for number in range(30_000))
    ((labels, _),) = ours({"a"}, f"a{{{inside}}} 5\n")["a"]
    assert len(labels) == 30_000
