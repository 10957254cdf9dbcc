"""A load by the minute: what the limits (oracle, static peak) are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heteroscale_simulator.traffic.load import Floats, Load

MINUTE = 60


@dataclass(frozen=True)
class Minutes:
    """Means of each minute. Arrays of shape (minutes, classes) unless said otherwise."""

    edges: Floats
    """Where minutes begin and the last one ends, in seconds of the run; shape (minutes + 1,)."""
    rate: Floats
    """Requests per second."""
    prompt: Floats
    """Mean prompt tokens of a request; 0 where none came."""
    output: Floats
    """Mean output tokens of a request; 0 where none came."""

    @classmethod
    def of(cls, load: Load) -> Minutes:
        """Return the minutes of ``load``; the last one may be short.

        Raises:
            ValueError: the load has no second.

        """
        if not load.seconds:
            raise ValueError("a load without a second has no minutes")
        starts = np.arange(0, load.seconds, MINUTE)
        edges = np.append(starts, load.seconds).astype(np.float64)
        requests, prompts, outputs = (
            np.add.reduceat(column, starts, axis=0)
            for column in (load.requests, load.input_tokens, load.output_tokens)
        )
        some = np.where(requests > 0, requests, 1.0)
        return cls(edges, requests / np.diff(edges)[:, None], prompts / some, outputs / some)

    @classmethod
    def busiest(cls, load: Load, window: int, column: str = "input_tokens") -> Minutes:
        """Return the minutes of ``load``, each as its ``window`` seconds with most tokens are.

        ``column`` says which tokens. A role that is sized by a minute's mean is late in the minute's
        bursts; 60 seconds are the mean.

        Raises:
            ValueError: the load has no second, or the window is none or longer than a minute.

        """
        if not 0 < window <= MINUTE:
            raise ValueError(f"a minute's busiest {window} s: 1 to {MINUTE} are possible")
        mean = cls.of(load)
        ends = mean.edges[1:].astype(np.int64)
        starts = np.array(
            [
                _busiest(getattr(load, column)[int(a) : int(b)], int(a), window)
                for a, b in zip(mean.edges, ends, strict=False)
            ]
        )
        lasts = np.minimum(starts + window, ends)
        rows = [slice(a, b) for a, b in zip(starts.tolist(), lasts.tolist(), strict=True)]
        requests, prompts, outputs = (
            np.stack([column[row].sum(axis=0) for row in rows])
            for column in (load.requests, load.input_tokens, load.output_tokens)
        )
        some = np.where(requests > 0, requests, 1.0)
        return cls(mean.edges, requests / (lasts - starts)[:, None], prompts / some, outputs / some)

    @property
    def seconds(self) -> Floats:
        """Length of each minute; shape (minutes,)."""
        lengths: Floats = np.diff(self.edges)
        return lengths

    @cached_property
    def prompt_rate(self) -> Floats:
        """Prompt tokens that arrive per second; shape (minutes,)."""
        tokens: Floats = (self.rate * self.prompt).sum(axis=1)
        return tokens

    @cached_property
    def output_rate(self) -> Floats:
        """Output tokens per second that the arriving requests ask for; shape (minutes,)."""
        tokens: Floats = (self.rate * self.output).sum(axis=1)
        return tokens

    @cached_property
    def context(self) -> Floats:
        """Mean context of a generated token in each minute; that of the run where none is generated.

        A request of prompt p and output o is at p + o/2 on average, and is there for o steps:
        Σ o (p + o/2) ÷ Σ o. Shape (minutes,).
        """
        weighted = (self.rate * self.output * (self.prompt + self.output / 2)).sum(axis=1)
        some = np.where(self.output_rate > 0, self.output_rate, 1.0)
        return np.where(self.output_rate > 0, weighted / some, self.mean_context)

    @cached_property
    def mean_context(self) -> float:
        """Mean context of a generated token over the whole run; 1 where nothing is generated."""
        tokens = self.rate * self.output * self.seconds[:, None]
        total = float(tokens.sum())
        return float((tokens * (self.prompt + self.output / 2)).sum()) / total if total else 1.0


def _busiest(tokens: Floats, begin: int, window: int) -> int:
    """Return the second where the ``window`` seconds with most tokens begin; ``begin`` is the first."""
    so_far = np.append(0.0, np.cumsum(tokens.sum(axis=1)))
    width = min(window, len(tokens))
    return begin + int(np.argmax(so_far[width:] - so_far[:-width]))
