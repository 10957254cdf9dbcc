"""The work that came, by the second, from what was done and what began to wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_advisor.history import History, RolePast, ratio
from heteroscale_advisor.presence import Bools, Floats
from heteroscale_simulator.traffic.load import Load


@dataclass(frozen=True)
class Arrivals:
    """What came in each slot, per second; NaN where unknown."""

    requests: Floats
    prefill: Floats
    """Prompt tokens to be computed."""
    decode: Floats
    """Tokens to be generated."""
    requests_from: str
    """Which signal told the requests."""

    def load(self, step: int, known: Bools) -> Load:
        """Return it second by second; nothing where it is unknown."""
        columns = []
        for values in (self.requests, self.prefill, self.decode):
            filled = np.where(known & np.isfinite(values), values, 0.0)
            columns.append(np.repeat(filled, step)[:, None])
        requests, prompts, outputs = columns
        return Load(
            requests, np.where(requests > 0, prompts, 0.0), np.where(requests > 0, outputs, 0.0)
        )


def arrivals(history: History) -> Arrivals:
    """Return what came: work done, and the work of the requests by which a queue grew.

    Raises:
        ValueError: nobody tells how many requests there were.

    """
    step = history.grid.step
    if (alone := history.roles.get(Role.AGGREGATED)) is not None:
        requests, told = _requests(alone)
        prompts = alone.values["computed_prompt_tokens"]
        if not np.isfinite(prompts).any():
            prompts = alone.values["prompt_tokens"]
        # What waits is asked of it once, in tokens to be generated: its work is told in these.
        return Arrivals(requests, prompts, _came(alone, ratio(alone.work, requests), step), told)
    prefill, decode = history.roles[Role.PREFILL], history.roles[Role.DECODE]
    requests, told = _requests(prefill, decode)
    return Arrivals(
        requests,
        _came(prefill, ratio(prefill.work, requests), step),
        _came(decode, ratio(decode.work, requests), step),
        told,
    )


def _requests(*roles: RolePast) -> tuple[Floats, str]:
    for past in roles:
        for name in ("requests_finished", "ttft_count"):
            if np.isfinite(past.values[name]).any():
                return past.values[name], f"{past.role.value} {name}"
    raise ValueError(
        "no engine tells how many requests ended (requests_finished, nor a count of first tokens): give "
        "a query of your own for requests_finished in `queries`"
    )


def _came(past: RolePast, size: Floats, step: float) -> Floats:
    """Return work done and left waiting, per second; ``size`` is the work of a request."""
    grown = np.diff(past.values["waiting"], prepend=np.nan)
    waited = np.where(np.isfinite(grown), grown, 0.0) * np.where(np.isfinite(size), size, 0.0)
    came: Floats = np.maximum(past.work + waited / step, 0.0)
    return came
