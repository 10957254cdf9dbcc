"""Answers are read strictly: garbage is refused in words, and what is not known is not made up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.edge.prometheus.answers import PrometheusError, label_sets, matrix


def answer(result: object, **more: object) -> bytes:
    """Return a range query's answer as Prometheus writes it."""
    data = {"resultType": "matrix", "result": result}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def test_points_are_read_and_the_unknown_left_out() -> None:
    values = [[1, "2.5"], [2, "NaN"], [3, "+Inf"], [4, "-1"], [5, "0"]]
    found = matrix(answer([{"metric": {"pod": "a"}, "values": values}]))
    assert found.series == (({"pod": "a"}, ((1.0, 2.5), (5.0, 0.0))),)
    assert not found.partial


def test_warnings_make_an_answer_partial() -> None:
    assert matrix(answer([], warnings=["store x is away"])).partial
    assert matrix(answer([], isPartial=True)).warnings == ("the answer is partial",)
    assert not matrix(answer([], isPartial=False)).partial
    assert not matrix(answer([], infos=["metric might not be a counter"])).partial
    remark = 'PromQL info: metric might not be a counter, name does not end in _total: "x"'
    assert matrix(answer([], warnings=[remark, "store x is away"])).warnings == ("store x is away",)
    assert not matrix(answer([], warnings=[remark])).partial


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it is empty"),
        (b"<html>login</html>", "<html>login</html>"),
        (b"[1]", "not Prometheus's"),
        (b'{"status":"error","error":"parse error"}', "parse error"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', "no matrix"),
        (b'{"status":"success","data":{"resultType":"matrix"}}', "no result"),
        (answer([{"metric": {}}]), "no values"),
        (answer([{"metric": {}, "values": [["x", "1"]]}]), "a point of the answer is none"),
        (answer([{"metric": {}, "values": [3]}]), "a point of the answer is none"),
        (answer([{"values": []}]), "no labels"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(text: bytes, says: str) -> None:
    with pytest.raises(PrometheusError) as error:
        matrix(text)
    assert says in str(error.value)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: f'{{"status":{t}'.encode()))
def test_any_garbage_is_refused_and_nothing_else_happens(text: bytes) -> None:
    for read in (matrix, label_sets):
        with pytest.raises(PrometheusError):
            read(text)


def test_label_sets() -> None:
    text = b'{"status":"success","data":[{"__name__":"a","pod":"x"}],"warnings":["half"]}'
    assert label_sets(text) == (({"__name__": "a", "pod": "x"},), ("half",))
    with pytest.raises(PrometheusError, match="no list"):
        label_sets(b'{"status":"success","data":{}}')
