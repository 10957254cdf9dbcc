"""Label matchers, read and applied as PromQL does."""

from __future__ import annotations

import pytest

from heteroscale_coordinator.core.spec.matchers import matchers, none_of, one_of, quoted


@pytest.mark.parametrize(
    ("text", "labels", "accepted"),
    [
        ('job="a"', {"job": "a"}, True),
        ('job="a"', {"job": "b"}, False),
        ('job=""', {}, True),
        ('job!="a"', {}, True),
        ('pod=~"x-.*"', {"pod": "x-1"}, True),
        ('pod=~"x"', {"pod": "x-1"}, False),
        ('pod!~"x.*"', {"pod": "x-1"}, False),
        ('{job="a", pod=~"x|y",}', {"job": "a", "pod": "y"}, True),
        ('path="a\\"b"', {"path": 'a"b'}, True),
        ("", {"job": "a"}, True),
    ],
)
def test_they_accept_what_promql_does(text: str, labels: dict[str, str], accepted: bool) -> None:
    assert all(one.accepts(labels) for one in matchers(text)) is accepted


@pytest.mark.parametrize("text", ["job", "job=a", 'job="a" pod="b"', 'job=~"("', '="x"'])
def test_what_is_none_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|regular expression"):
        matchers(text)


def test_values_are_written_so_that_they_come_back() -> None:
    value = 'a\\b"c\nd'
    (one,) = matchers(f"x={quoted(value)}")
    assert one.value == value
    assert one_of("source", ("local",)) == 'source="local"'
    (both,) = matchers(one_of("r", ("a.b", "c")))
    assert both.accepts({"r": "a.b"})
    assert not both.accepts({"r": "aXb"})
    (neither,) = matchers(none_of("r", ("abort",)))
    assert neither.accepts({"r": "stop"})
    assert not neither.accepts({"r": "abort"})
