"""What was found, put together: the material of the text, the JSON and the page; and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from heteroscale.documents import format_duration
from heteroscale.words import Role
from heteroscale_advisor.ask import Asked
from heteroscale_advisor.history import Grid, History, quantile
from heteroscale_advisor.model import latencies_of
from heteroscale_advisor.policy import UNKNOWN_GPU, gpus_of, gpus_told, pace
from heteroscale_advisor.presence import Bools, Floats
from heteroscale_advisor.replay import Replay
from heteroscale_advisor.wishes import Wishes
from heteroscale_simulator.report.words import number, percent, span

WORTH = 0.03
"""Share saved below which nothing is to be gained."""
AS_GOOD = 0.005
"""Shares of requests that differ by less are alike."""
SEEN = 0.95
"""Share of the time that should be known."""
MODEL_AGREES = 0.05
NAMED = 3
"""Instances in a sentence."""


@dataclass(frozen=True)
class Findings:
    """Everything that is told."""

    wishes: Wishes
    asked: Asked
    history: History
    replay: Replay

    @property
    def seen(self) -> float:
        """Share of the time in which everything is known."""
        return float(self.history.known.mean())


def when(grid: Grid) -> str:
    """Return from when to when, as a person says it."""
    first, last = (
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
        for at in (grid.start, grid.start + grid.seconds)
    )
    return f"{first} to {last} UTC"


def range_of(values: Floats, among: Bools | None = None) -> tuple[float, float, float] | None:
    """Return the 5th percentile, the median and the 95th of what is known."""
    low, mid, high = (quantile(values, share, among) for share in (0.05, 0.5, 0.95))
    return None if low is None or mid is None or high is None else (low, mid, high)


def inventory(found: Findings) -> list[Mapping[str, object]]:
    """Return a row for each role: instances, engines, GPU types, load."""
    rows: list[Mapping[str, object]] = []
    for role, past in found.history.roles.items():
        mine = [p for p in found.history.instances if p.seen.role is role]
        model = found.replay.models[role]
        load = range_of(past.load, found.history.known)
        rows.append(
            {
                "role": role.value,
                "instances": len(mine),
                "now": _last(past.count),
                "fewest": _edge(past.count, 0.0),
                "most": _edge(past.count, 1.0),
                "engines": dict(Counter(p.seen.engine for p in mine)),
                "gpu_types": dict(Counter(p.seen.gpu_type or UNKNOWN_GPU for p in mine)),
                "gpus_per_instance": gpus_of(found.history, found.wishes, role),
                "role_from": sorted({p.seen.role_from or "matchers" for p in mine}),
                "tokens_per_s_median": load[1] if load else None,
                "tokens_per_s_p95": load[2] if load else None,
                "target": model.target,
                "target_from": "file" if model.stated else "seen",
                "never_told": list(found.history.missing.get(role, ())),
            }
        )
    return rows


def assumptions(found: Findings) -> Iterator[str]:
    """Yield what the figures rest on, in sentences."""
    spec, models = found.replay.spec, found.replay.models
    startup = found.wishes.startup or spec.policy.guard.startup
    yield (
        "The policy is the coordinator's own code, fed in virtual time with what was recorded, every "
        f"{pace(spec, found.wishes):g} s; nothing was started or changed."
    )
    yield (
        "Work is what was done, and what began to wait. Instances of a role share it evenly, each "
        "does no more than one was ever seen to do, and latency at a load is the median that was "
        "measured at it."
    )
    for role, model in models.items():
        if model.stated and model.highest <= model.target:
            yield (
                f"{role.value}: your file's target of {number(model.target)} tokens/s is taken to be "
                "carried within the SLO; so much was never seen here."
            )
        elif not model.stated:
            yield (
                f"{role.value}: sized by {number(model.target)} tokens/s an instance, which one of "
                f"twenty kept moments exceeded; the most ever seen is {number(model.highest)}."
            )
    for name, (_, latency) in latencies_of(models).items():
        if not latency.promise.stated and latency.promise.seconds is not None:
            yield (
                f"No SLO of {name.upper()} was given: {_ms(latency.promise.seconds)} stands for it; "
                "99 of 100 came in moments whose mean kept it."
            )
    yield f"A launch takes {format_duration(startup)} to serve, and every node has room."
    if not any(_gpus_known(found, role) for role in models):
        example = ",".join(f"{role.value}={8 if role is Role.DECODE else 4}" for role in models)
        yield f"An instance is counted as one GPU: say --gpus {example} where it is more."
    if found.seen < 1:
        yield (
            f"{percent(1 - found.seen)} of the time is unknown, and left out on both sides: some "
            "instance was not scraped, or an answer was partial."
        )


def next_steps(found: Findings) -> Iterator[str]:
    """Yield what to do next, the most useful first."""
    replay = found.replay
    saved, held, joint = replay.saved, replay.held.kept.both, replay.joint.kept.both
    safe = held is None or joint is None or joint >= held - AS_GOOD
    if late := began(found):
        yield (
            f"All that is known begins {span(late)} into the time that was asked for: ask for less "
            "(--since), or again when more is recorded."
        )
    if early := ended(found):
        yield (
            f"All that is known ends {span(early)} before the end: were the engines taken away, or is "
            "it the scraping that stopped?"
        )
    if found.seen < SEEN and holes(found):
        worst = ", ".join(f"{name} ({span(seconds)})" for name, seconds in holes(found)[:NAMED])
        yield (
            "Mend the holes first: look at `up` of the engines' job, scrape every 15 s or faster. "
            f"Not always scraped: {worst}."
        )
    if not all(one.promise.stated for _, one in latencies_of(replay.models).values()):
        yield (
            "State what users were promised: --slo-ttft 1s --slo-tbt 50ms, or `slo` in a service "
            "file (-f)."
        )
    yield from _of_model(replay)
    if saved is not None and saved >= WORTH and safe:
        yield (
            "Let it watch live: --write service.yaml, which is `advisory: true`, then `heteroscale "
            "apply` it; each decision is explained, and no command is sent."
        )
    elif saved is not None and saved >= WORTH:
        yield (
            "Savings here cost latency: pass a lower `target` in a service file (-f), or a larger "
            "`policy.reserve`, and look again."
        )
    elif saved is not None and saved < 0 and not safe:
        yield "You already hold fewer than the work asks for; look at the moments that missed the SLO."
    else:
        yield (
            "Little is to be saved by counts at the load that was ever seen. Find what an instance "
            "really carries with `heteroscale profile`, and give it as `target` in a service file "
            "(-f)."
        )
    yield from _of_ratio(replay)
    if any(not model.stated for model in replay.models.values()):
        yield "Measure the targets: `heteroscale profile` finds what an instance carries within the SLO."


def _gpus_known(found: Findings, role: Role) -> bool:
    wishes = found.wishes
    given = role in wishes.gpus or wishes.spec is not None
    return given or gpus_told(found.history, role) is not None


def began(found: Findings) -> float:
    """Return the seconds before the first known slot; 0 where they are next to none."""
    first = int(np.flatnonzero(found.history.known)[0]) if found.history.known.any() else 0
    return (
        first * found.history.grid.step if first > (1 - SEEN) * found.history.grid.points else 0.0
    )


def ended(found: Findings) -> float:
    """Return the seconds after the last known slot; 0 where they are next to none."""
    points = found.history.grid.points
    known = np.flatnonzero(found.history.known)
    late = points - 1 - int(known[-1]) if len(known) else 0
    return late * found.history.grid.step if late > (1 - SEEN) * points else 0.0


def holes(found: Findings) -> list[tuple[str, float]]:
    """Return the instances that were not always scraped, and for how many seconds, the worst first."""
    step = found.history.grid.step
    lost = [
        (past.seen.name, float((past.there & ~past.known).sum()) * step)
        for past in found.history.instances
    ]
    return sorted([one for one in lost if one[1] > 0], key=lambda one: (-one[1], one[0]))


def _of_model(replay: Replay) -> Iterator[str]:
    held, modelled = replay.held.kept.both, replay.held_by_model.both
    if held is not None and modelled is not None and abs(modelled - held) > MODEL_AGREES:
        yield (
            f"Do not trust the SLO figures yet: for what you held, the model says "
            f"{percent(modelled)} and Prometheus {percent(held)}. Latency here follows something "
            "else than load."
        )


def _of_ratio(replay: Replay) -> Iterator[str]:
    if Role.AGGREGATED in replay.models:
        yield (
            "Prefill and decode share these instances. Whether to part them, their metrics do not "
            "tell: long prompts that hold up others' tokens speak for it."
        )
    wanted, had = range_of(replay.wanted), range_of(replay.had)
    if wanted is None or had is None:
        return
    if had[1] > wanted[2] or had[1] < wanted[0]:
        way = "more" if had[1] > wanted[2] else "less"
        yield (
            f"The P:D ratio held ({number(had[1])}) has {way} prefill than the work asked for in 19 "
            f"of 20 moments ({number(wanted[0])} to {number(wanted[2])}): shift instances between "
            "the roles."
        )


def _last(values: Floats) -> int | None:
    known = values[np.isfinite(values)]
    return int(known[-1]) if len(known) else None


def _edge(values: Floats, share: float) -> int | None:
    found = quantile(values, share)
    return None if found is None else round(found)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
