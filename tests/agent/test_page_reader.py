"""A page that is read again and again says the same as if it were read for the first time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_agent.model import EngineScrape
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import read, reader
from heteroscale_agent.probes.engines.text import FamilyFilter, Head, MetricsTextError
from heteroscale_agent.probes.page import PageReader
from heteroscale_agent.probes.reading import Amount, Reading

FIXTURES = Path(__file__).parent / "fixtures"
LINES = {
    engine: [
        line
        for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    for engine, name in (
        ("vllm", "vllm-0.32-pd-decode.txt"),
        ("sglang", "sglang-0.5.23-loaded.txt"),
    )
}


@st.composite
def pages(draw: st.DrawFn, engine: str) -> list[str]:
    """Pages of an engine: some lack a part of their lines, some have another order, all move."""
    lines = LINES[engine]
    texts = []
    for _ in range(draw(st.integers(2, 4))):
        kept = lines
        if draw(st.booleans()):
            begin = draw(st.integers(0, len(lines) - 1))
            kept = lines[:begin] + lines[begin + draw(st.integers(1, 40)) :]
        if draw(st.booleans()):
            kept = kept[::-1]
        factor = draw(st.sampled_from((1.0, 2.0, 3.5)))
        moved = (line.rpartition(" ") for line in kept)
        texts.append("".join(f"{head} {float(value) * factor}\n" for head, _, value in moved))
    return texts


def read_alone(engine: str, text: str) -> EngineScrape | str:
    try:
        return read(MAPPINGS[engine], text)
    except MetricsTextError as error:
        return str(error)


@pytest.mark.parametrize("engine", sorted(LINES))
@given(data=st.data())
def test_what_was_read_before_changes_nothing(engine: str, data: st.DataObject) -> None:
    kept = reader(MAPPINGS[engine])
    for text in data.draw(pages(engine)):
        try:
            seen: EngineScrape | str = kept.read(text)
        except MetricsTextError as error:
            seen = str(error)
        assert repr(seen) == repr(read_alone(engine, text))


class Readings:
    """Lays out the family `a` as one sum, and counts how often."""

    def __init__(self) -> None:
        self.times = 0
        self.last: weakref.ref[Any] | None = None
        family = FamilyFilter({"a"})
        self.page: PageReader[dict[str, float]] = PageReader("test", family, self.lay_out, dict)

    def lay_out(self, heads: Sequence[Head]) -> Mapping[str, Reading[Any]]:
        self.times += 1
        names = {head.labels["x"] for head in heads}
        found = _Named({name: Amount(((0,),), 1e9) for name in names})
        self.last = weakref.ref(found)
        return found


class _Named(dict[str, Reading[Any]]):
    """A dict that can be referred to weakly."""


def test_a_page_is_laid_out_once_for_as_long_as_its_series_stay() -> None:
    made = Readings()
    assert [made.page.read(f'a{{x="1"}} {value}\n') for value in (1, 2, 3)] == [
        {"1": 1.0},
        {"1": 2.0},
        {"1": 3.0},
    ]
    assert made.times == 1
    assert made.page.read('a{x="2"} 4\n') == {"2": 4.0}
    assert made.times == 2


def test_series_that_are_gone_are_let_go() -> None:
    made = Readings()
    made.page.read('a{x="1"} 1\n')
    gone = made.last
    assert gone is not None
    assert gone() is not None
    made.page.read('a{x="2"} 1\n')
    gc.collect()
    assert gone() is None


def test_a_page_that_cannot_be_read_is_not_kept_in_mind() -> None:
    made = Readings()
    for _ in range(2):
        with pytest.raises(MetricsTextError, match="malformed"):
            made.page.read("a{x=1} 1\n")
    assert made.page.read('a{x="1"} 5\n') == {"1": 5.0}
