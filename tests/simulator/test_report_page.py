"""The page of a run: it needs nothing else, hides nothing and is drawn inside its frame."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from heteroscale_simulator.report import charts, drawing
from heteroscale_simulator.report.page import page
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from tests.simulator import studies


class Reader(HTMLParser):
    """Notes every element, attribute and text, and that elements are closed in order."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(study: Study) -> Reader:
    reader = Reader()
    reader.feed("".join(page(study)))
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_needs_nothing_but_itself() -> None:
    text = "".join(page(studies.study()))
    reader = read(studies.study())
    assert "script" not in {tag for tag, _ in reader.elements}
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", text)
    for tag, attributes in reader.elements:
        assert not {"src", "srcset", "style"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    links = {a["href"] for tag, a in reader.elements if tag == "a"}
    assert links == {f"#{a['id']}" for tag, a in reader.elements if tag == "section"}


def test_text_is_escaped_wherever_it_comes_from() -> None:
    evil = "<script>alert('&')</script>\"'"
    run = studies.service(evil)
    told = replace(run.decisions[0], reason=evil, action=evil)
    figures = replace(run.figures, policy=evil)
    run = replace(run, decisions=[told], figures=figures)
    study = replace(
        studies.study(), runs=[PolicyRun(figures, [run, run])], command=[evil], notes=[evil]
    )
    reader = read(replace(study, version=evil))
    assert "script" not in {tag for tag, _ in reader.elements}
    assert sum(evil in text for text in reader.texts) > 6


def test_every_decision_is_on_the_time_line_and_in_the_list_with_its_reason() -> None:
    reader = read(studies.study(("joint",)))
    text = "\n".join(reader.texts)
    for told in studies.DECISIONS:
        assert text.count(told.reason) == 2
    assert sum(tag == "circle" and "mark" in (a["class"] or "") for tag, a in reader.elements) == 4


def test_the_charts_are_well_formed_and_inside_their_frame() -> None:
    drawings = re.findall(r"(?s)<svg.*?</svg>", charts.service_charts(studies.service()))
    assert len(drawings) == 8
    for text in drawings:
        root = ET.fromstring(text)  # noqa: S314 - our own drawing
        _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
        points = [p for e in root.iter() for p in e.attrib.get("points", "").split()]
        for x, y in (map(float, point.split(",")) for point in points):
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_a_long_run_is_drawn_by_coarser_means() -> None:
    axis = drawing.Axis(60, 60.0 * 5000)
    line = drawing.Line("x", "c0", np.arange(5000.0))
    (points,) = re.findall(r'points="([^"]+)"', drawing.chart(axis, [line]))
    assert len(points.split()) <= drawing.MAX_POINTS
    first, last = points.split()[0], points.split()[-1]
    assert float(first.split(",")[1]) > float(last.split(",")[1])  # it still rises


def test_unknown_values_leave_a_gap() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, np.nan, np.nan, 2.0, 1.0])
    text = drawing.chart(drawing.Axis(60, 480.0), [drawing.Line("x", "c0", values)])
    assert [len(p.split()) for p in re.findall(r'points="([^"]+)"', text)] == [2, 2]
    assert text.count("<circle") == 1
    assert "nan" not in text


def test_a_distant_limit_does_not_flatten_the_curve() -> None:
    line = drawing.Line("x", "c0", np.full(10, 50.0))
    far = drawing.Line("SLO", "limit", np.full(10, 10_000.0))
    text = drawing.chart(drawing.Axis(60, 600.0), [line], limits=[far])
    (tops,) = re.findall(r'class="line c0" points="([^"]+)"', text)
    assert float(tops.split()[0].split(",")[1]) < 50
    assert 'class="line limit"' not in text
    assert drawing.is_outside(far, [line])
    near = drawing.Line("SLO", "limit", np.full(10, 60.0))
    assert 'class="line limit"' in drawing.chart(drawing.Axis(60, 600.0), [line], limits=[near])
    assert not drawing.is_outside(near, [line])


def test_a_run_without_decisions_and_without_an_oracle_has_a_page_too() -> None:
    bare: ServiceRun = replace(studies.service(), decisions=(), limits=None, usage={}, intervals=[])
    study = replace(studies.study(), runs=[PolicyRun(bare.figures, [bare])])
    assert "no count was ever changed" in " ".join(read(study).texts)


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (7.3, 8.0), (8.1, 10.0), (101.0, 120.0)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert drawing.nice(value) == pytest.approx(top)
