"""Generators: shapes of traffic with parameters, as demand by the second.

Each is a function of its parameters' values; ``SHAPES`` says what they are called, what they mean and
what they are when nobody says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from heteroscale_simulator.traffic.demand import Demand
from heteroscale_simulator.traffic.load import Floats

Values = Mapping[str, float]

PAPER_DAY = (
    *((0.0, 37.0), (5.3, 1.5), (8.0, 18.0), (10.0, 74.0), (11.0, 87.0), (12.3, 51.0), (14.0, 71.0)),
    *((16.2, 98.0), (18.0, 68.0), (19.5, 55.0), (21.6, 63.0), (24.0, 37.0)),
)
"""Hour and load in percent of peak: points on the daily curve of HeteroScale's paper, off its plot."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a generator takes."""

    default: float
    meaning: str
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True, slots=True)
class Shape:
    """A generator."""

    meaning: str
    make: Callable[[Values, Floats], Demand]
    """From the parameters' values and the seconds (0, 1, 2 …)."""
    parameters: Mapping[str, Parameter]


def common(
    hours: float = 24, peak: float = 100, prompt: float = 1000, output: float = 200
) -> dict[str, Parameter]:
    """Return the parameters that every generator has."""
    return {
        "hours": Parameter(hours, "length of the run", 1 / 3600, 60 * 24),
        "peak": Parameter(peak, "requests/s at the busiest moment", 0, 1e7),
        "input": Parameter(prompt, "mean prompt tokens", 1, 1e6),
        "output": Parameter(output, "mean output tokens", 1, 1e6),
        "spread": Parameter(1.0, "sigma of the lognormal lengths; 0: all alike", 0, 3),
    }


def _demand(values: Values, share: Floats, ratio: Floats | float = 1.0) -> Demand:
    """Return ``share`` of the peak; ``ratio`` tilts lengths: in:out × ratio, their product kept."""
    tilt = np.broadcast_to(np.sqrt(ratio), share.shape)
    return Demand(
        values["peak"] * share,
        np.maximum(1.0, values["input"] * tilt),
        np.maximum(1.0, values["output"] / tilt),
        values["spread"],
    )


def _steady(values: Values, second: Floats) -> Demand:
    return _demand(values, np.ones_like(second))


def _diurnal(values: Values, second: Floats) -> Demand:
    hour = second / 3600 - values["trough-at"]
    wave = (1 - np.cos(2 * np.pi * hour / values["period"])) / 2
    return _demand(values, values["trough"] + (1 - values["trough"]) * wave)


def _on_off(values: Values, second: Floats) -> Demand:
    on = second % (values["on"] + values["off"]) < values["on"]
    return _demand(values, np.where(on, 1.0, values["low"]))


def _ramp(values: Values, second: Floats) -> Demand:
    begin, end = values["from"], values["to"]
    return _demand(values, begin + (end - begin) * second / max(1.0, len(second) - 1))


def _flash_crowd(values: Values, second: Floats) -> Demand:
    at, rise, last = values["at"] * len(second), values["rise"], values["last"]
    corners = np.array([at, at + rise, at + rise + last, at + 2 * rise + last])
    up = np.interp(second, corners, [0.0, 1.0, 1.0, 0.0])
    calm = 1 / values["factor"]
    return _demand(values, calm + (1 - calm) * up)


def _ratio_drift(values: Values, second: Floats) -> Demand:
    wave = (1 - np.cos(2 * np.pi * second / 3600 / values["period"])) / 2
    begin, end = np.log(values["from"]), np.log(values["to"])
    wanted = np.exp(begin + (end - begin) * wave)
    return _demand(values, np.ones_like(second), wanted * values["output"] / values["input"])


def _paper_day(values: Values, second: Floats) -> Demand:
    hours, shares = np.array(PAPER_DAY).T
    hour = (second / 3600 * 24 / values["day"]) % 24
    return _demand(values, np.interp(hour, hours, shares) / shares.max())


DIURNAL = {
    "trough": Parameter(0.2, "quietest moment, as a share of the peak", 0, 1),
    "trough-at": Parameter(4, "hour of the quietest moment", 0, 1440),
    "period": Parameter(24, "hours from trough to trough", 1 / 60, 1440),
}

SHAPES: Mapping[str, Shape] = {
    "steady": Shape("the same rate at all times", _steady, common(hours=1)),
    "diurnal": Shape("a cosine from trough to peak and back", _diurnal, common() | DIURNAL),
    "on-off": Shape(
        "bursts and silence in turn",
        _on_off,
        common(hours=1)
        | {
            "on": Parameter(120, "seconds of a burst", 1),
            "off": Parameter(120, "seconds between bursts", 0),
            "low": Parameter(0, "rate between bursts, as a share of the peak", 0, 1),
        },
    ),
    "ramp": Shape(
        "a straight line",
        _ramp,
        common(hours=1)
        | {
            "from": Parameter(0.1, "rate at first, as a share of the peak", 0, 1),
            "to": Parameter(1, "rate at last, as a share of the peak", 0, 1),
        },
    ),
    "flash-crowd": Shape(
        "a calm rate that jumps to a multiple of itself, and back",
        _flash_crowd,
        common(hours=1)
        | {
            "factor": Parameter(5, "the peak, as a multiple of the calm rate", 1),
            "at": Parameter(0.5, "when it begins to rise, as a share of the run", 0, 1),
            "rise": Parameter(30, "seconds that it takes to rise, and to fall", 0),
            "last": Parameter(600, "seconds that it stays up", 0),
        },
    ),
    "ratio-drift": Shape(
        "a steady rate whose in:out ratio goes from one value to another and back",
        _ratio_drift,
        common()
        | {
            "from": Parameter(2.5, "in:out ratio at first", 1e-3, 1e3),
            "to": Parameter(25, "in:out ratio half a period later", 1e-3, 1e3),
            "period": Parameter(24, "hours there and back", 1 / 60, 1440),
        },
    ),
    "prefill-heavy": Shape(
        "long prompts, short outputs, by day and night",
        _diurnal,
        common(prompt=8000, output=100) | DIURNAL,
    ),
    "decode-heavy": Shape(
        "short prompts, long outputs, by day and night",
        _diurnal,
        common(prompt=300, output=1200) | DIURNAL,
    ),
    "paper-day": Shape(
        "the daily curve of HeteroScale's paper",
        _paper_day,
        common() | {"day": Parameter(24, "hours in which its 24 are played", 1 / 60, 24)},
    ),
}
"""By name."""
