"""What a person types after ``--trace``: a recording, a recorded curve, or a generator.

- ``FILE``: a recording of requests
- ``FILE?input=1000&output=200&peak=50``: a recorded curve of load, with what it does not say
- ``gen:NAME?hours=24&peak=2000``: a generator
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.curves import curve_of
from heteroscale_simulator.traffic.demand import Demand, drawn
from heteroscale_simulator.traffic.generators import SHAPES, Parameter, Shape
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.opening import Progress, head, opened
from heteroscale_simulator.traffic.recording import load_opened
from heteroscale_simulator.traffic.rows import TraceError

GENERATED = "gen:"
CURVE_OPTIONS = {
    "input": Parameter(1000, "mean prompt tokens", 1, 1e6),
    "output": Parameter(200, "mean output tokens", 1, 1e6),
    "peak": Parameter(100, "requests/s at 100 percent", 0, 1e7),
    "spread": Parameter(1.0, "sigma of the lognormal lengths; 0: all alike", 0, 3),
}


def load_source(
    text: str,
    rate_scale: float = 1.0,
    seed: int = 0,
    classes: int = 8,
    progress: Progress | None = None,
) -> Load:
    """Return the load that ``text`` names, its rate times ``rate_scale``.

    Args:
        text: see the module
        rate_scale: requests for each one recorded, or a factor on a made-up rate; > 0
        seed: of what is drawn
        classes: at most so many classes of alike requests
        progress: is told the share of a file read, 0 to 1

    Raises:
        TraceError: the file, the generator's name or a parameter makes no sense.
        ValueError: ``rate_scale`` or ``classes`` is out of range.

    """
    if not (0 < rate_scale < math.inf):
        raise ValueError(f"rate scale is {rate_scale:g}; a finite number above 0 is needed")
    if text.startswith(GENERATED):
        return drawn(_faster(generated(text), rate_scale), seed, classes)
    path, options = _parted(text)
    # Opened once: it may be a pipe.
    with opened(path, progress) as file:
        opening = head(file, str(path))
        curve = curve_of(opening)
        if curve is None and options:
            raise TraceError(f"{path}: a recording of requests takes no options ({options})")
        if curve is None:
            return load_opened(opening, rate_scale, seed, classes)
    values = parameters(options, CURVE_OPTIONS, str(path))
    return drawn(_faster(curve.demand(str(path), values), rate_scale), seed, classes)


def generated(text: str) -> Demand:
    """Return what ``gen:NAME?key=number&…`` says.

    Raises:
        TraceError: no such generator or parameter, or a value out of range.

    """
    name, _, options = text.removeprefix(GENERATED).partition("?")
    shape = SHAPES.get(name)
    if shape is None:
        near = difflib.get_close_matches(name, SHAPES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TraceError(f"{text}: no generator {name!r} (known: {', '.join(SHAPES)}){hint}")
    given = parameters(options, shape.parameters, GENERATED + name)
    return made(shape, given)


def made(shape: Shape, given: Mapping[str, float]) -> Demand:
    """Return a generator's demand; what is not given is as the shape says."""
    values = {key: parameter.default for key, parameter in shape.parameters.items()} | dict(given)
    seconds = max(1, round(values["hours"] * 3600))
    return shape.make(values, np.arange(seconds, dtype=np.float64))


def parameters(text: str, known: Mapping[str, Parameter], name: str) -> dict[str, float]:
    """Return ``key=number&key=number`` as numbers.

    Raises:
        TraceError: a key is unknown or given twice, or a number is none or out of range.

    """
    values: dict[str, float] = {}
    for part in text.split("&") if text else []:
        key, equals, number = part.partition("=")
        if key not in known:
            listed = ", ".join(f"{key} ({known[key].meaning})" for key in known)
            raise TraceError(f"{name}: no parameter {key!r}; known: {listed}")
        if key in values:
            raise TraceError(f"{name}: {key} is given twice")
        try:
            value = float(number)
        except ValueError:
            what = f"is {number!r}" if equals else "has no value"
            raise TraceError(f"{name}: {key} {what}; a number is needed") from None
        low, high = known[key].low, known[key].high
        if not (low <= value <= high and value < math.inf):
            between = f"from {low:g} up" if high == math.inf else f"from {low:g} to {high:g}"
            raise TraceError(f"{name}: {key} is {number}; a number {between} is needed")
        values[key] = value
    return values


def _parted(text: str) -> tuple[Path, str]:
    whole = Path(text)
    if "?" not in text or whole.exists():
        return whole, ""
    path, _, options = text.rpartition("?")
    return Path(path), options


def _faster(demand: Demand, rate_scale: float) -> Demand:
    return dataclasses.replace(demand, rate=demand.rate * rate_scale)
