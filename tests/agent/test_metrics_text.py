"""Lines of a metrics text: what prometheus_client makes of them, and what is kept in mind."""

from __future__ import annotations

import io
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from heteroscale_agent.probes.engines.text import (
    GENERATION,
    MAX_REMEMBERED,
    FamilyFilter,
    MetricsTextError,
)

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
    found = FamilyFilter(names).samples(text)
    return {name: [(dict(s.labels), s.value) for s in samples] for name, samples in found.items()}


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
        FamilyFilter({"a"}).samples(f"a{{{inside}}} 5\n")


def test_very_many_labels_are_read_in_one_go() -> None:
    inside = ",".join(f'l{number}="x"' for number in range(30_000))
    ((labels, _),) = ours({"a"}, f"a{{{inside}}} 5\n")["a"]
    assert len(labels) == 30_000


def lines(count: int, engine: str) -> str:
    return "".join(f'a{{engine="{engine}",le="{place}"}} 1\n' for place in range(count))


def test_an_engine_that_invents_labels_does_not_fill_the_memory() -> None:
    family = FamilyFilter({"a"})
    lasting = lines(500, "lasting")
    first = family.samples(lasting)["a"][0]
    for number in range(300):
        family.samples(lasting)
        family.samples(lines(100, f"{number}"))
        assert family.remembered <= 2 * MAX_REMEMBERED
    # What is shown all the time has been parsed once.
    assert family.samples(lasting)["a"][0].labels is first.labels


def test_series_of_an_engine_that_is_gone_are_let_go() -> None:
    family = FamilyFilter({"a"})
    family.samples(lines(100, "gone"))
    for _ in range(2 * GENERATION):
        family.samples(lines(3, "lasting"))
    assert family.remembered <= 2 * 3
