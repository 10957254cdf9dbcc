"""Figures in words and short numbers, the same on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heteroscale_simulator.measures.run import RunFigures

NONE = "–"
MANY = 3
"""Runs that are told one by one."""
ROUNDING = 1e-9
"""Of a share that is a sum of parts of requests."""
ALL = 100.0
"""Percent."""
WHOLE_FROM = 100.0
"""Numbers from here on are shown without decimals: three figures count."""
ORACLES = ("oracle-free", "oracle-fixed")
"""Nobody can choose them."""


def saved(figures: RunFigures) -> float | None:
    """Return the share of static peak's GPU-hours that was not needed; below 0: it took more."""
    return _share(figures.gpu_hours_static_peak - figures.gpu_hours, figures.gpu_hours_static_peak)


def of_oracle(figures: RunFigures) -> float | None:
    """Return what was saved as a share of what the free oracle saves; None if either is nothing."""
    possible = figures.gpu_hours_static_peak - figures.gpu_hours_oracle_free
    share = _share(figures.gpu_hours_static_peak - figures.gpu_hours, possible)
    return share if share is not None and share >= 0 else None


def _share(part: float, whole: float) -> float | None:
    if not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0:
        return None
    return part / whole


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as percent; what is not quite all is never shown as 100.

    Short of all by less than one in a billion is rounding of parts of requests: all.
    """
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value * 100:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    if value < 1 - ROUNDING and float(text) >= ALL:
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text} %"


def number(value: float | None) -> str:
    """Return a number with three figures that count, or whole with thousands apart."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """Return a moment of the run as hours, minutes and seconds: ``13:05:00``."""
    whole = int(seconds)
    return f"{whole // 3600:d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def span(seconds: float) -> str:
    """Return a length of time in its largest units: ``24 h``, ``1 h 30 min``, ``45 s``."""
    hours, minutes, rest = int(seconds) // 3600, int(seconds) // 60 % 60, int(seconds) % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    parts.append(f"{rest} s" if rest or not (hours or minutes) else "")
    return " ".join(part for part in parts if part)


def sentence(figures: RunFigures) -> str:
    """Return one run in a sentence."""
    share, oracle = saved(figures), of_oracle(figures)
    if share is None:
        cost = f"held {number(figures.gpu_hours)} GPU-hours"
    elif abs(share) < 0.002:  # noqa: PLR2004 - the start of the run alone makes as much
        cost = "held as many GPU-hours as static peak provisioning"
    else:
        way = "fewer" if share > 0 else "more"
        cost = f"held {percent(abs(share))} {way} GPU-hours than static peak provisioning"
        if share > 0 and oracle is not None:
            cost += f" ({percent(oracle, 0)} of what perfect foresight would save)"
    met = figures.joint_attainment
    kept = "no request arrived" if met is None else f"{percent(met)} of the requests met their SLO"
    lost = figures.requests_failed
    cut = f"; {number(lost)} were cut off" if round(lost) else "; none was cut off"
    return f"{figures.policy} {cost}, and {kept}{cut if met is not None else ''}."


def comparison(runs: Sequence[RunFigures]) -> str:
    """Return what a comparison comes to: every run, then the cheapest of those that kept the most."""
    # Of many, those that a reader asked for first; the table has all.
    told = " ".join(sentence(run) for run in (runs if len(runs) <= MANY else runs[:1]))
    known = [r for r in runs if r.joint_attainment is not None and r.policy not in ORACLES]
    if len(known) <= 1:
        return told
    best = max(run.joint_attainment or 0.0 for run in known)
    close = [run for run in known if (run.joint_attainment or 0.0) >= best - 0.01]
    winner = min(close, key=lambda run: run.gpu_hours)
    return (
        f"{told} Of those within one percentage point of the most requests met ({percent(best)}), "
        f"{winner.policy} held the fewest GPU-hours ({number(winner.gpu_hours)})."
    )
