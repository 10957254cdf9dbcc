"""Arithmetic that can be done again: a formula, its terms, and what came out.

A law does not reckon a figure and then write a sentence about it: it gives the formula to ``reckon``,
and what is evaluated is what is stored and shown. So a stored decision is replayed exactly, with the
same numbers, by whoever reads it (``replay``).

Formulas are a small part of Python's expressions: names, numbers, ``+ - * /``, unary minus, and the
functions in ``FUNCTIONS``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

_Term = Callable[[Mapping[str, float]], float]


class _Function(NamedTuple):
    call: Callable[..., float]
    least: int
    most: int | None
    """Arguments; None: any number."""


def _power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf


FUNCTIONS: Mapping[str, _Function] = {
    "max": _Function(max, 2, None),
    "min": _Function(min, 2, None),
    "ceil": _Function(math.ceil, 1, 1),
    "floor": _Function(math.floor, 1, 1),
    "sqrt": _Function(math.sqrt, 1, 1),
    "abs": _Function(abs, 1, 1),
    "power": _Function(_power, 2, 2),
}
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MAX_FORMULA = 400
"""Characters of a formula; a stored one that is longer is no formula of ours."""
_MAX_DEPTH = 40


class FormulaError(ValueError):
    """The text is no formula, lacks a term, or gives no number for its terms."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One line of arithmetic. ``value`` is exactly what ``formula`` gives for ``terms``."""

    formula: str
    value: float
    terms: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    note: str = ""
    """Where the terms come from, where that is not plain from their names."""

    @property
    def text(self) -> str:
        """The value, the formula, and its terms: ``88 tok/s = served * 1.1 (served 80)``."""
        told = ", ".join(f"{name} {value:g}" for name, value in self.terms.items())
        return (
            f"{self.value:g} {self.unit}".rstrip()
            + f" = {self.formula}"
            + f" ({told})" * bool(told)
            + f"; {self.note}" * bool(self.note)
        )


def reckon(formula: str, unit: str = "", note: str = "", /, **terms: float) -> Sum:
    """Return what ``formula`` gives for ``terms``, with both.

    Raises:
        FormulaError: the formula is none, or names a term that is not given.
        ArithmeticError: a division by zero, or a number too large.
        ValueError: the root of a negative number.

    """
    return Sum(formula, _compiled(formula)(terms), terms, unit, note)


def replay(stored: Sum) -> float:
    """Return what a stored line of arithmetic gives now; equal to its value, or it was tampered with.

    Raises:
        FormulaError: it is no formula of ours, or gives no number for these terms.

    """
    try:
        return _compiled(stored.formula)(stored.terms)
    except FormulaError:
        raise
    except (ArithmeticError, ValueError) as error:
        raise FormulaError(f"{stored.formula!r} gives nothing: {error}") from error


def same(stored: Sum) -> bool:
    """Return whether a stored line gives exactly its value again; NaN is equal to NaN here."""
    try:
        again = replay(stored)
    except FormulaError:
        return False
    return again == stored.value or (math.isnan(again) and math.isnan(stored.value))


@lru_cache(maxsize=512)
def _compiled(formula: str) -> _Term:
    if len(formula) > MAX_FORMULA:
        raise FormulaError(f"longer than {MAX_FORMULA} characters")
    try:
        body = ast.parse(formula.strip(), mode="eval").body
    # A NUL is a ValueError to one Python and a SyntaxError to another; deep nesting is either.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"{formula!r} is no formula: {error}") from error
    return _term(body, _MAX_DEPTH)


def _term(node: ast.expr, depth: int) -> _Term:
    if depth == 0:
        raise FormulaError("nested too deeply")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(number)
        case ast.Name(id=name):
            return lambda terms: _named(terms, name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            value = _term(inner, depth - 1)
            return lambda terms: -value(terms)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            do, first, second = (
                _OPERATORS[type(sign)],
                _term(left, depth - 1),
                _term(right, depth - 1),
            )
            return lambda terms: do(first(terms), second(terms))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return _called(name, [_term(one, depth - 1) for one in args])
    raise FormulaError(f"{ast.unparse(node)!r} has no place in a formula")


def _number(number: float) -> _Term:
    try:
        value = float(number)
    except OverflowError:
        raise FormulaError("a number is too large") from None
    return lambda _: value


def _called(name: str, values: list[_Term]) -> _Term:
    call, least, most = FUNCTIONS[name]
    if len(values) < least or (most is not None and len(values) > most):
        raise FormulaError(f"{name} takes {least}{'' if most else ' or more'} terms")
    return lambda terms: call(*(value(terms) for value in values))


def _named(terms: Mapping[str, float], name: str) -> float:
    try:
        return terms[name]
    except KeyError:
        raise FormulaError(f"the term {name!r} is not given") from None
