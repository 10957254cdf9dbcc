"""The best ratio r for P = ⌈r D⌉ by the minute, over all ratios that make a difference.

⌈r D⌉ changes only where r D is whole, so between two such fractions every ratio gives the same counts,
and the fractions k/D stand for all. They are ranked by the GPU-seconds that their counts need without
start-up, which is a lower bound, and costed in that order until no bound is below the best cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import Counts
from heteroscale_simulator.measures.schedule import Ladder, companions, paired
from heteroscale_simulator.traffic.load import Floats

MOST_RATIOS = 50_000
"""Where more ratios than this make a difference, as many evenly chosen ones are looked at."""
_COARSE = 200
_FIRST_LOOK = 4


@dataclass(frozen=True)
class _Problem:
    edges: Floats
    counts: Mapping[Role, Counts]
    ladders: Mapping[Role, Ladder]
    pairs: Counts
    """Distinct (prefill, decode) needs; shape (n, 2)."""
    seconds: Floats
    """How long each of them lasts; shape (n,)."""

    def decode(self, ratio: float) -> Counts:
        """Fewest decode instances by pair that are enough, and bring enough prefill."""
        return enough_decode(self.pairs[:, 0], self.pairs[:, 1], ratio)

    def bound(self, ratio: float) -> float:
        """GPU-seconds in service; infinite beyond the fleet."""
        decode = self.decode(ratio)
        prefill = paired(decode, ratio)
        total = 0.0
        for role, counts in ((Role.PREFILL, prefill), (Role.DECODE, decode)):
            if self.ladders[role].over(counts).any():
                return float("inf")
            total += float((self.ladders[role].gpus(counts) * self.seconds).sum())
        return total

    def cost(self, ratio: float) -> float:
        """GPU-seconds held, start-up included: what ``together`` would hold."""
        decode = enough_decode(self.counts[Role.PREFILL], self.counts[Role.DECODE], ratio)
        groups = [
            [(one.gpus, one.lead) for one in (offer, *(brought for _, brought in extra))]
            for offer, extra in companions(self.ladders, ratio, int(decode.max()))
        ]
        return self.bound(ratio) + starting(decode, self.edges, groups)

    def outcome(self, ratio: float) -> bytes:
        """Tell apart ratios that differ in any count."""
        decode = self.decode(ratio)
        return decode.tobytes() + paired(decode, ratio).tobytes()


def starting(counts: Counts, edges: Floats, groups: Sequence[Sequence[tuple[int, float]]]) -> float:
    """Return the GPU-seconds that are held beyond those needed, to start or to bridge gaps.

    ``groups`` are the (GPUs, lead) of the instances that come and go with each level.
    """
    held = np.array([sum(gpus for gpus, _ in group) for group in groups], dtype=np.float64)
    relaunch = np.array([sum(gpus * lead for gpus, lead in group) for group in groups])
    ended = np.full(len(groups), -1.0)
    total, before = 0.0, 0
    for at, now in zip(edges.tolist(), counts.tolist(), strict=False):
        if now < before:
            ended[now:before] = at
        for level in range(before, now):
            if ended[level] < 0:
                total += sum(gpus * min(lead, at) for gpus, lead in groups[level])
            else:
                total += min(held[level] * (at - ended[level]), relaunch[level])
        before = now
    return total


def enough_decode(prefill: Counts, decode: Counts, ratio: float) -> Counts:
    """Return the least D ≥ ``decode`` with ⌈ratio × D⌉ ≥ ``prefill``."""
    least = np.floor((prefill - 1) / ratio + 1e-9 / ratio).astype(np.int64) + 1
    return np.maximum(decode, least)


def best_ratio(
    edges: Floats, counts: Mapping[Role, Counts], ladders: Mapping[Role, Ladder]
) -> tuple[Counts, float, bool]:
    """Return decode instances by minute, the ratio, and whether the fleet has room for it.

    Where it has no room for any ratio, the one that would be best with more of the last GPU types.
    """
    both = np.stack([counts[Role.PREFILL], counts[Role.DECODE]], axis=1)
    pairs, which = np.unique(both, axis=0, return_inverse=True)
    seconds = np.bincount(which.ravel(), weights=np.diff(edges)).astype(np.float64)
    best, ratio = _search(_Problem(edges, counts, ladders, pairs, seconds))
    fits = bool(np.isfinite(best))
    if not fits:
        more = {role: ladder.endless() for role, ladder in ladders.items()}
        _, ratio = _search(_Problem(edges, counts, more, pairs, seconds))
    return enough_decode(counts[Role.PREFILL], counts[Role.DECODE], ratio), ratio, fits


def _search(problem: _Problem) -> tuple[float, float]:
    peak_p, peak_d = (int(most) for most in problem.pairs.max(axis=0))
    coarse = np.geomspace(1 / peak_d / peak_p, peak_p, _COARSE)
    ranked = sorted((problem.bound(r), float(r)) for r in coarse)
    first = [r for bound, r in ranked[:_FIRST_LOOK] if np.isfinite(bound)]
    best = min(((problem.cost(r), r) for r in first), default=(float("inf"), 1.0))
    best = (best[0] * (1 + 1e-9), best[1])  # a fraction that is as good is told rather than it
    ratios = _that_matter(problem, coarse, best[0])
    unlike = {problem.outcome(r): r for r in ratios}
    for bound, ratio in sorted((problem.bound(r), r) for r in unlike.values()):
        if bound >= best[0]:
            break
        best = min(best, (problem.cost(ratio), ratio))
    return best


def _that_matter(problem: _Problem, coarse: Floats, best: float) -> list[float]:
    """Return the fractions between those coarse ratios that cannot be better than ``best``."""
    low = max((r for r in coarse if _least_with_decode(problem, r) > best), default=coarse[0])
    high = min((r for r in coarse if _least_with_prefill(problem, r) > best), default=coarse[-1])
    most = int(problem.decode(low).max())
    found: list[Floats] = []
    for decode in range(1, most + 1):
        first, last = ceil(low * decode - 1e-9), ceil(high * decode)
        found.append(np.arange(max(first, 1), last + 1) / decode)
    ratios = np.unique(np.concatenate(found))
    return [float(r) for r in ratios[:: ceil(len(ratios) / MOST_RATIOS) or 1]]


def _least_with_decode(problem: _Problem, ratio: float) -> float:
    # Falls as the ratio rises: the decode that the ratio wants, and no more prefill than is needed.
    return _least(problem, problem.pairs[:, 0], problem.decode(ratio))


def _least_with_prefill(problem: _Problem, ratio: float) -> float:
    # Rises with the ratio: the prefill that comes with the decode that is needed.
    return _least(problem, paired(problem.pairs[:, 1], ratio), problem.pairs[:, 1])


def _least(problem: _Problem, prefill: Counts, decode: Counts) -> float:
    gpus = [
        min(offer.gpus for offer, _ in problem.ladders[role].rungs)
        for role in (Role.PREFILL, Role.DECODE)
    ]
    return float(((prefill * gpus[0] + decode * gpus[1]) * problem.seconds).sum())
