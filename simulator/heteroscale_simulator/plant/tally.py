"""What became of the requests, by the second of their arrival."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
(
    ARRIVED,
    INPUT_TOKENS,
    FAILED,
    TTFT_MET,
    TTFT_SUM,
    FIRST_TOKENS,
    FINISHED,
    TBT_MET,
    MET,
    TBT_SUM,
    OUTPUT_TOKENS,
) = range(11)


class Tally:
    """Sums of shape (columns, seconds); times outside of the run count as its last second."""

    def __init__(self, seconds: int) -> None:
        if seconds < 1:
            raise ValueError(f"a run of {seconds} seconds")
        self._sums = np.zeros((OUTPUT_TOKENS + 1, seconds))
        self._last = seconds - 1

    def at(self, second: int, column: int, value: float) -> None:
        """Add to one second."""
        self._sums[column, min(second, self._last)] += value

    def spread(self, came: Floats, first: int, values: Floats) -> None:
        """Add ``values`` of shape (columns, n) from column ``first`` on, for arrivals at ``came``."""
        if not len(came):
            return
        seconds = np.minimum(came.astype(np.int64), self._last)
        begin = int(seconds.min())
        seconds -= begin
        end = begin + int(seconds.max()) + 1
        for column, value in enumerate(values, first):
            self._sums[column, begin:end] += np.bincount(seconds, value)

    def outcomes(self, unfinished: tuple[Floats, Floats] | None = None) -> Outcomes:
        """Return a copy; ``unfinished``: arrival times and tokens generated so far, of who runs."""
        sums = self._sums.copy()
        if unfinished is not None:
            came, tokens = unfinished
            seconds = np.minimum(came.astype(np.int64), self._last)
            np.add.at(sums[OUTPUT_TOKENS], seconds, tokens)
        return Outcomes(
            arrived=sums[ARRIVED],
            finished=sums[FINISHED],
            failed=sums[FAILED],
            ttft_met=sums[TTFT_MET],
            tbt_met=sums[TBT_MET],
            met=sums[MET],
            ttft_sum=sums[TTFT_SUM],
            first_tokens=sums[FIRST_TOKENS],
            tbt_sum=sums[TBT_SUM],
            input_tokens=sums[INPUT_TOKENS],
            output_tokens=sums[OUTPUT_TOKENS],
        )
