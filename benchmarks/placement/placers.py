"""Who takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.placement.baseline import Baseline
from benchmarks.placement.best_fit import BestFit
from benchmarks.placement.first_fit import FirstFit
from benchmarks.placement.kube import Kube
from benchmarks.placement.ours import Ours
from benchmarks.placement.port import Placer
from benchmarks.placement.spread import Spread
from heteroscale_coordinator.core.placement import NodeView

OURS = Ours.name
BASELINES = (FirstFit(), BestFit(), Spread(), Kube())
PLACERS: Mapping[str, Callable[[Sequence[NodeView]], Placer]] = {
    OURS: Ours,
    **{scores.name: partial(Baseline, scores) for scores in BASELINES},
}
