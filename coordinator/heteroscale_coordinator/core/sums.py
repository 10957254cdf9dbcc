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

_Term = Callable[[Mapping[str, float]], float]

FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "max": max,
    "min": min,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "abs": abs,
}
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MAX_FORMULA = 400
"""Characters of a formula; a stored one that is longer is no formula of ours."""


class FormulaError(ValueError):
    """The text is no formula, or lacks a term."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One line of arithmetic. ``value`` is exactly what ``formula`` gives for ``terms``."""

    formula: str
    value: float
    terms: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""

    @property
    def text(self) -> str:
        """The formula with its terms put in: ``110 = served 80 × 1.1 …``."""
        told = ", ".join(f"{name} {value:g}" for name, value in self.terms.items())
        return (
            f"{self.value:g} {self.unit}".rstrip()
            + f" = {self.formula}"
            + f" ({told})" * bool(told)
        )


def reckon(formula: str, unit: str = "", /, **terms: float) -> Sum:
    """Return what ``formula`` gives for ``terms``, with both.

    Raises:
        FormulaError: the formula is none, or names a term that is not given.
        ZeroDivisionError: as written.

    """
    return Sum(formula, _compiled(formula)(terms), terms, unit)


def replay(stored: Sum) -> float:
    """Return what a stored line of arithmetic gives now; equal to its value, or it was tampered with.

    Raises:
        FormulaError: it is no formula of ours.

    """
    return _compiled(stored.formula)(stored.terms)


@lru_cache(maxsize=512)
def _compiled(formula: str) -> _Term:
    if len(formula) > MAX_FORMULA:
        raise FormulaError(f"longer than {MAX_FORMULA} characters")
    try:
        return _term(ast.parse(formula, mode="eval").body)
    except (SyntaxError, RecursionError) as error:
        raise FormulaError(f"{formula!r} is no formula: {error}") from error


def _term(node: ast.expr) -> _Term:
    match node:
        case ast.Constant(value=int() | float() as number):
            return lambda _: number
        case ast.Name(id=name):
            return lambda terms: _named(terms, name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            value = _term(inner)
            return lambda terms: -value(terms)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            do, first, second = _OPERATORS[type(sign)], _term(left), _term(right)
            return lambda terms: do(first(terms), second(terms))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            call, values = FUNCTIONS[name], [_term(one) for one in args]
            return lambda terms: call(*(value(terms) for value in values))
    raise FormulaError(f"{ast.unparse(node)!r} has no place in a formula")


def _named(terms: Mapping[str, float], name: str) -> float:
    try:
        return terms[name]
    except KeyError:
        raise FormulaError(f"the term {name!r} is not given") from None
