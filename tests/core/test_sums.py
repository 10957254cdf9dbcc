"""Arithmetic that is stored with a decision: what is shown is what was reckoned, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.sums import (
    FUNCTIONS,
    MAX_FORMULA,
    FormulaError,
    Sum,
    reckon,
    replay,
    same,
)

NAMES = ("served", "arrivals", "each", "horizon")
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
terms = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers))

leaves = st.one_of(
    st.sampled_from(NAMES), st.integers(0, 10**6).map(str), st.floats(0, 1e6).map(repr)
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({' '.join(t)})")
    negative = inner.map(lambda one: f"-{one}")
    one = st.tuples(st.sampled_from(("ceil", "floor", "sqrt", "abs")), inner)
    many = st.tuples(st.sampled_from(("max", "min")), st.lists(inner, min_size=2, max_size=4))
    return st.one_of(
        binary,
        negative,
        one.map(lambda t: f"{t[0]}({t[1]})"),
        many.map(lambda t: f"{t[0]}({', '.join(t[1])})"),
    )


formulas = st.recursive(leaves, _grown, max_leaves=8).filter(lambda text: len(text) <= MAX_FORMULA)


def by_python(formula: str, values: Mapping[str, float]) -> float:
    """Evaluate with Python's own eval: the oracle, over the same few functions."""
    calls = {name: function.call for name, function in FUNCTIONS.items()}
    # The oracle is Python itself, on formulas that the test made.
    return float(eval(formula, {"__builtins__": {}, **calls}, dict(values)))  # noqa: S307


@given(formulas, terms)
def test_what_is_stored_is_what_was_reckoned_and_comes_out_again(
    formula: str, values: dict[str, float]
) -> None:
    try:
        line = reckon(formula, "tok/s", **values)
    except (ArithmeticError, ValueError):
        return
    assert same(line)
    assert replay(Sum(line.formula, 0.0, dict(line.terms))) == line.value or math.isnan(line.value)


@given(formulas, st.fixed_dictionaries({name: st.integers(-1000, 1000) for name in NAMES}))
def test_a_formula_means_what_python_means_by_it(formula: str, values: dict[str, int]) -> None:
    try:
        expected = by_python(formula, values)
    except (ArithmeticError, ValueError):
        return
    found = reckon(formula, **values).value
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@given(formulas, terms, numbers)
def test_a_value_that_was_changed_is_found_out(
    formula: str, values: dict[str, float], other: float
) -> None:
    try:
        line = reckon(formula, **values)
    except (ArithmeticError, ValueError):
        return
    assert same(Sum(formula, other, values)) == (other == line.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a +",
        "a ** a",
        "a // a",
        "a % a",
        "a < a",
        "a if a else a",
        "True",
        "None",
        "1j",
        "'a'",
        "a.real",
        "a[0]",
        "[a]",
        "(a, a)",
        "lambda: a",
        "a := 1",
        "+a",
        "not a",
        "exec(a)",
        "__import__('sys')",
        "max(a)",
        "max()",
        "sqrt(a, a)",
        "ceil()",
        "max(a, a, key=a)",
        "max(*a)",
        "pow(a, a)",
        "a; a",
        "a\n+ a = a",
        "a\0",
        "9" * 390,
        "-" * 390 + "a",
    ],
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        reckon(text, a=2.0)


@given(st.text(max_size=60))
def test_any_other_text_is_refused_or_a_number_never_anything_worse(text: str) -> None:
    try:
        value = replay(Sum(text, 0.0, {"a": 2.0, "b": 3.0}))
    except FormulaError:
        return
    assert isinstance(value, float | int)


def test_a_text_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(FormulaError, match="longer than 400 characters"):
        reckon("a + " * 100 + "a", a=1.0)


def test_a_term_that_is_not_given_is_named() -> None:
    with pytest.raises(FormulaError, match="'each' is not given"):
        reckon("arrivals * each", arrivals=2.0)


def test_a_division_by_zero_is_the_law_s_to_mind_and_a_stored_one_is_a_forgery() -> None:
    with pytest.raises(ZeroDivisionError):
        reckon("a / b", a=1.0, b=0.0)
    forged = Sum("a / b", 1.0, {"a": 1.0, "b": 0.0})
    with pytest.raises(FormulaError, match="gives nothing"):
        replay(forged)
    assert not same(forged)


def test_a_nan_stays_one_and_is_the_same_again() -> None:
    line = reckon("a + 1", a=math.nan)
    assert math.isnan(line.value)
    assert same(line)


def test_a_line_tells_value_unit_formula_terms_and_where_they_come_from() -> None:
    line = reckon("served * 1.1", "tok/s", "head-room of a tenth", served=80)
    assert line.text == "88 tok/s = served * 1.1 (served 80); head-room of a tenth"
    assert reckon("2 * 3").text == "6 = 2 * 3"
