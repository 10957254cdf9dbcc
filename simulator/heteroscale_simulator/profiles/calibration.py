"""How far the roofline is off where engines were measured, and the fit of its efficiencies.

``python -m heteroscale_simulator.profiles.calibration`` prints the errors of the efficiencies in use;
``--fit`` fits them anew; ``--without H100`` keeps a GPU type out of the fit, which shows what an
estimate of a type that nobody measured is worth.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean, median, quantiles

from heteroscale_simulator.profiles.hardware import hardware
from heteroscale_simulator.profiles.measurements import Measurements
from heteroscale_simulator.profiles.roofline import Efficiency, Roofline
from heteroscale_simulator.profiles.shapes import shapes
from heteroscale_simulator.profiles.shipped import measured_engines

FITTED = tuple(f.name for f in fields(Efficiency) if f.name not in ("memory", "reserve_gib"))
"""The others follow from the measured KV capacities, to the token."""
CUT = 4096
"""Tokens at which tables are cut, to see what an extension beyond an edge is worth."""

FINEST = 0.005
"""Relative step at which a fit ends."""


@dataclass(frozen=True, slots=True)
class Point:
    """One estimate beside its measurement."""

    gpu: str
    work: str
    """``prefill``, ``decode``; ``… beyond`` for extensions of cut tables."""
    estimated: float
    measured: float

    @property
    def error(self) -> float:
        """Relative error; 0.1 is a tenth too slow."""
        return self.estimated / self.measured - 1


def points(of: Efficiency, gpus: Sequence[str]) -> Iterator[Point]:
    """Yield the estimate of every measurement on ``gpus``, in milliseconds."""
    for gpu, roofline, measured in _engines(of, gpus):
        for tokens, ms in measured.prefill.items():
            yield Point(gpu, "prefill", 1000 * roofline.prefill_seconds(tokens), ms)
        for (batch, context), ms in measured.decode.items():
            yield Point(gpu, "decode", 1000 * roofline.step_seconds(batch, context), ms)


def beyond(of: Efficiency, gpus: Sequence[str]) -> Iterator[Point]:
    """Yield what tables cut at ``CUT``, and extended, say of the measurements beyond the cut."""
    for gpu, roofline, whole in _engines(of, gpus):
        cut = replace(
            whole,
            prefill={n: ms for n, ms in whole.prefill.items() if n <= CUT},
            decode={at: ms for at, ms in whole.decode.items() if at[1] <= CUT},
        ).extended(roofline)
        for tokens, ms in whole.prefill.items():
            if tokens > CUT:
                yield Point(gpu, "prefill beyond", 1000 * cut.prefill_seconds(tokens), ms)
        for (batch, context), ms in whole.decode.items():
            if context > CUT:
                yield Point(gpu, "decode beyond", 1000 * cut.step_seconds(batch, context), ms)


def fit(gpus: Sequence[str], start: Efficiency) -> Efficiency:
    """Return the efficiencies with the least error on ``gpus``: coordinate descent, deterministic.

    The loss is the mean of |log error|^1.5, prefill and decode weighing alike: between the median,
    which ignores the tails, and the squares, which see nothing else.
    """
    best, least, stride = start, _loss(start, gpus), 0.2
    while stride > FINEST:
        before = least
        for name in FITTED:
            for factor in (1 + stride, 1 / (1 + stride)):
                tried = replace(best, **{name: getattr(best, name) * factor})
                loss = _loss(tried, gpus)
                if loss < least:
                    best, least = tried, loss
        if least > before * 0.999:
            stride /= 2
    return best


def report(measured: Sequence[Point]) -> str:
    """Return errors by GPU type and work, in percent."""
    lines = [f"{'GPU':8}{'work':16}{'points':>7}{'bias':>7}{'median':>8}{'p90':>6}{'worst':>7}"]
    for gpu in [*dict.fromkeys(p.gpu for p in measured), "all"]:
        for work in dict.fromkeys(p.work for p in measured):
            errors = [p.error for p in measured if p.work == work and gpu in (p.gpu, "all")]
            sizes = [abs(e) for e in errors]
            shown = (median(errors), median(sizes), quantiles(sizes, n=10)[-1], max(sizes))
            bias, middle, tail, worst = (100 * value for value in shown)
            lines.append(
                f"{gpu:8}{work:16}{len(errors):7}{bias:+7.1f}{middle:8.1f}{tail:6.1f}{worst:7.1f}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the errors, after a fit if one is asked for."""
    types = sorted({gpu for gpu, _ in measured_engines()})
    parser = argparse.ArgumentParser(prog="calibration", description=__doc__)
    parser.add_argument("--fit", action="store_true", help="fit the efficiencies anew (seconds)")
    parser.add_argument("--without", choices=types, help="keep a GPU type out of the fit")
    arguments = parser.parse_args(argv)
    of = Efficiency()
    if arguments.fit or arguments.without:
        of = fit([gpu for gpu in types if gpu != arguments.without], of)
        for name in FITTED:
            sys.stdout.write(f"{name:10}{getattr(of, name):.4g}\n")
    seen = [arguments.without] if arguments.without else types
    sys.stdout.write(report([*points(of, seen), *beyond(of, seen)]) + "\n")
    return 0


def _engines(of: Efficiency, gpus: Sequence[str]) -> Iterator[tuple[str, Roofline, Measurements]]:
    for (gpu, engine), measured in measured_engines().items():
        if gpu in gpus:
            shape, kind = shapes()[engine.model], hardware()[gpu]
            tp = engine.tensor_parallel
            yield gpu, Roofline(shape, engine.weights_dtype, kind, tp, of), measured


def _loss(of: Efficiency, gpus: Sequence[str]) -> float:
    sums: dict[str, list[float]] = {}
    for point in points(of, gpus):
        distance = abs(math.log(point.estimated / point.measured)) ** 1.5
        sums.setdefault(point.work, []).append(distance)
    return fmean(fmean(distances) for distances in sums.values())


if __name__ == "__main__":
    sys.exit(main())
