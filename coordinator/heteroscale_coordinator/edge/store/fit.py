"""A decision in the size that the record keeps: what is too much is cut, with a word (pure).

A stage that goes wrong could reckon a thousand lines each tick; the record must still hold days.
JSON has no word for what is not finite, and one such number must not cost the whole decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from heteroscale_coordinator.core.model import Decision, SignalValue
from heteroscale_coordinator.core.sums import Sum

MAX_SUMS = 100
MAX_INPUTS = 200
MAX_SIGNALS = 200
MAX_INSTANCES = 1000
MAX_TERMS = 50
MAX_TEXT = 2000
_V = TypeVar("_V")


def fit(decision: Decision) -> Decision:
    """Return the decision as it is kept; the same one when nothing is too much."""
    cut: list[str] = []
    sums = {name: line for name, line in decision.sums.items() if _finite(line)}
    if odd := [name for name in decision.sums if name not in sums]:
        cut.append(f"not finite: {', '.join(sorted(odd)[:10])}")
    slim = replace(
        decision,
        reason=_short(decision.reason),
        sums=_first(sums, MAX_SUMS, "lines of arithmetic", cut),
        inputs={
            _short(name): _short(text)
            for name, text in _first(decision.inputs, MAX_INPUTS, "inputs", cut).items()
        },
        signals=tuple(_known(one) for one in decision.signals[:MAX_SIGNALS]),
        instance_ids=decision.instance_ids[:MAX_INSTANCES],
    )
    for kept, whole, what in (
        (slim.signals, decision.signals, "signals"),
        (slim.instance_ids, decision.instance_ids, "instances"),
    ):
        if len(kept) < len(whole):
            cut.append(_told(len(kept), len(whole), what))
    return replace(slim, inputs={**slim.inputs, "cut": "; ".join(cut)}) if cut else slim


def _first(items: Mapping[str, _V], most: int, what: str, cut: list[str]) -> dict[str, _V]:
    if len(items) > most:
        cut.append(_told(most, len(items), what))
    return dict(islice(items.items(), most))


def _told(kept: int, whole: int, what: str) -> str:
    return f"{kept} of {whole} {what} are kept"


def _finite(line: Sum) -> bool:
    return (
        len(line.terms) <= MAX_TERMS
        and math.isfinite(line.value)
        and all(math.isfinite(value) for value in line.terms.values())
    )


def _known(signal: SignalValue) -> SignalValue:
    """Return a signal whose value is a number or unknown."""
    if signal.value is None or math.isfinite(signal.value):
        return signal
    return signal._replace(value=None)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … ({len(text)} characters)"
