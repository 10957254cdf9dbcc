"""What was measured of one engine on one GPU type, made a profile: strict, or extended by estimates.

A larger batch and a longer text are never faster: where the noise of a table says so, the slower
neighbour's time holds. A decode table has holes where batch × context exceeds the KV capacity; they
are filled, so that interpolation near the edge has its four corners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from heteroscale_simulator.profiles.grid import linear
from heteroscale_simulator.profiles.model import (
    DecodeTable,
    GpuProfile,
    Measured,
    PrefillTable,
    Source,
)
from heteroscale_simulator.profiles.roofline import CONTEXTS, LENGTHS, Roofline

MAX_PREFILL_TOKENS = 8192
Estimate = Callable[[float, float], float]
"""(batch, context) to the seconds of a step."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Times in milliseconds."""

    origin: str
    """File, GPU, model, weights and TP."""
    kv_capacity_tokens: int
    prefill: Mapping[float, float]
    """By prompt length."""
    decode: Mapping[tuple[float, float], float]
    """By (batch, context)."""
    startup: float = 60.0

    def profile(self, *, strict: bool = False) -> GpuProfile:
        """Return the measurements alone; ``strict`` refuses what lies beyond them.

        Raises:
            ValueError: strict, and a batch was measured less far than the KV capacity reaches.

        """
        if strict:
            self._check_edges()
        return self._profile(self.prefill, self._contexts(), None, "measured", strict=strict)

    def extended(self, roofline: Roofline) -> GpuProfile:
        """Return the measurements, and beyond them the roofline, scaled to meet their edge."""
        edge = max(self.prefill)
        scale = self.prefill[edge] / roofline.prefill_seconds(edge)
        prefill = dict(self.prefill)
        prefill |= {n: scale * roofline.prefill_seconds(n) for n in LENGTHS if n > edge}
        known = self._contexts()
        contexts = [*known, *(c for c in CONTEXTS if c > known[-1])]
        return self._profile(prefill, contexts, roofline.step_seconds, "extended", strict=False)

    def _profile(
        self,
        prefill: Mapping[float, float],
        contexts: Sequence[float],
        estimate: Estimate | None,
        source: Source,
        *,
        strict: bool,
    ) -> GpuProfile:
        batches = sorted({batch for batch, _ in self.decode})
        rows = [self._row(batch, contexts, estimate) for batch in batches]
        longest = max(self.prefill)
        return GpuProfile(
            kv_capacity_tokens=self.kv_capacity_tokens,
            max_batch=int(batches[-1]),
            max_prefill_tokens=min(MAX_PREFILL_TOKENS, int(longest)) or 1,
            startup=self.startup,
            source=source,
            measured=Measured(prompt=longest, context=self._contexts()[-1]),
            strict=strict,
            origin=self.origin,
            prefill=PrefillTable(
                lengths=tuple(sorted(prefill)),
                ms=tuple(accumulate((prefill[n] for n in sorted(prefill)), max)),
            ),
            decode=DecodeTable(
                batches=tuple(batches), contexts=tuple(contexts), step_ms=_rising(rows)
            ),
        )

    def _contexts(self) -> list[float]:
        return sorted({context for _, context in self.decode})

    def _row(
        self, batch: float, contexts: Sequence[float], estimate: Estimate | None
    ) -> list[float]:
        known = [c for c in contexts if (batch, c) in self.decode]
        values = [self.decode[batch, c] for c in known]

        def at(context: float) -> float:
            if estimate is None or context <= known[-1]:
                return linear(known, values, context)
            return values[-1] * estimate(batch, context) / estimate(batch, known[-1])

        return [at(context) for context in contexts]

    def _check_edges(self) -> None:
        contexts = self._contexts()
        for batch in sorted({batch for batch, _ in self.decode}):
            edge = max(c for b, c in self.decode if b == batch)
            following = next((c for c in contexts if c > edge), None)
            if following and batch * following <= self.kv_capacity_tokens:
                raise ValueError(
                    f"{self.origin}: batch {batch:g} was measured to a context of {edge:g} tokens,"
                    f" and KV for {following:g} would fit; measure it, or extend the tables"
                    " (--extend-profiles)"
                )


def _rising(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    risen: list[tuple[float, ...]] = []
    for row in rows:
        below = risen[-1] if risen else row
        risen.append(tuple(accumulate((max(pair) for pair in zip(row, below, strict=True)), max)))
    return tuple(risen)
