"""Cohorts: requests that move together, as sums over them; one row for each class.

A cohort is an array of shape (classes, WIDTH). Sums, never means, so that cohorts merge and split by
adding and scaling, and nothing is lost on the way.
"""

from __future__ import annotations

import numpy as np

from heteroscale_simulator.traffic.load import Floats

COUNT, INPUT, OUTPUT, COMPUTED, PREFILLED, BORN, SPENT, MET = range(8)
"""Columns: requests, Σ prompt tokens, Σ output tokens, Σ prompt tokens computed, Σ seconds to the end of
prefill, Σ time of arrival, Σ seconds since then at the door of decode (a first step as long as steps were
at the start of prefill is in it), and from MET on the requests that would meet the TTFT promise if DELAYS
more of it went by."""
DELAYS = np.array([0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0])
"""Further delays in units of the TTFT promise. After the last one nobody meets it."""
WIDTH = MET + len(DELAYS)


def met_after(cohort: Floats, delay: float, promise: float | None) -> Floats:
    """Return the requests of each class that meet the TTFT promise after ``delay`` more seconds.

    Exact at DELAYS, a straight line between them. No promise is always met.
    """
    if promise is None:
        everyone: Floats = cohort[:, COUNT]
        return everyone
    at = max(delay, 0.0) / promise
    if at >= 1.0:
        return np.zeros(len(cohort))
    low = int(np.searchsorted(DELAYS, at, side="right")) - 1
    share = (at - DELAYS[low]) / (DELAYS[low + 1] - DELAYS[low])
    sooner: Floats = cohort[:, MET + low]
    met: Floats = sooner + share * (cohort[:, MET + low + 1] - sooner)
    return met


def means(sums: Floats, counts: Floats) -> Floats:
    """Return ``sums`` ÷ ``counts``, 0 where there is nobody."""
    result: Floats = sums / np.where(counts > 0, counts, 1.0)
    return result
