"""All traffic under all variants, several runs at a time; each traffic is told when its last run ends."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import yaml

from benchmarks.policies.cases import STARTUP, Case
from benchmarks.policies.play import (
    FailedError,
    Ground,
    NoHistoryError,
    Prepared,
    Run,
    groups,
    play,
    prepare,
)
from benchmarks.policies.reach import Reach, reach_of
from benchmarks.policies.table import Shown
from benchmarks.policies.variants import HPA, JOINT, Variant
from benchmarks.policies.verdict import score, verdict
from benchmarks.policies.why import Why, minutes_in, why

R = TypeVar("R")
Group = tuple[list[Variant], int]
"""Variants that share a run, and its seed."""


def contest(
    cases: Sequence[Case],
    ground: Ground,
    wanted: Sequence[Variant],
    seeds: Sequence[int],
    jobs: int,
) -> Iterator[Shown]:
    """Yield every traffic in order; one whose runs broke is told on standard error and left out."""
    asked: list[Group] = [(group, seed) for group in groups(wanted) for seed in seeds]
    progress = _Progress(len(cases) * (1 + len(asked)))

    def start(first: Future[Prepared]) -> list[Future[Run]]:
        return [pool.submit(_run, first, ground, one, progress) for one in asked]

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        ready: list[Future[Prepared]] = []
        runs: list[list[Future[Run]]] = []
        # One ahead: nobody waits for a test that another has begun, and the first table comes early.
        for case in cases:
            ready.append(pool.submit(_prepare, case, ground, progress))
            runs += [start(first) for first in ready[-2:-1]]
        runs += [start(first) for first in ready[-1:]]
        for first, mine in zip(ready, runs, strict=True):
            try:
                yield gathered(first.result(), wanted, _results(asked, mine))
            except FailedError as error:
                print(error, file=sys.stderr)


def _prepare(case: Case, ground: Ground, progress: _Progress) -> Prepared:
    return progress.told(f"{case.name}: profile and scale", lambda: prepare(case, ground))


def _run(first: Future[Prepared], ground: Ground, asked: Group, progress: _Progress) -> Run:
    group, seed = asked
    prepared = first.result()
    text = group[0].document(prepared.service, prepared.ratio)
    title = f"{prepared.case.name}: {', '.join(one.name for one in group)}, seed {seed}"
    return progress.told(
        title,
        lambda: play(prepared.case, ground, text, group, scale=prepared.scale, seed=seed),
    )


class _Progress:
    """Says on standard error what is done, how long it took, and how much there is."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._begin = total, 0, time.monotonic()
        self._lock = threading.Lock()

    def told(self, title: str, do: Callable[[], R]) -> R:
        """Do it, and say so."""
        begin = time.monotonic()
        result = do()
        now = time.monotonic()
        with self._lock:
            self._done += 1
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = (spent.ru_utime + spent.ru_stime) / 60
            minutes = (now - self._begin) / 60
            so_far = f"[{self._done}/{self._total}, {minutes:.0f} min, {cpu:.0f} of CPU]"
        print(f"{so_far} {title}: {now - begin:.0f} s", file=sys.stderr, flush=True)
        return result


def _results(
    asked: Sequence[Group], runs: Sequence[Future[Run]]
) -> list[tuple[Group, Run | NoHistoryError]]:
    found: list[tuple[Group, Run | NoHistoryError]] = []
    for one, future in zip(asked, runs, strict=True):
        try:
            found.append((one, future.result()))
        except NoHistoryError as error:
            found.append((one, error))
    return found


def gathered(
    prepared: Prepared,
    wanted: Sequence[Variant],
    results: Sequence[tuple[Group, Run | NoHistoryError]],
) -> Shown:
    """Return a traffic's runs as they are shown: a variant's figures are means over its seeds."""
    figures: dict[str, list[dict[str, Any]]] = {}
    missing, notes = {}, dict[str, None]()
    load: dict[str, Any] = {}
    for (group, _), run in results:
        if isinstance(run, NoHistoryError):
            missing[group[0].name] = f"not here: {run}"
            continue
        load = load or run.figures
        for variant, one in zip(group, run.figures["runs"], strict=True):
            figures.setdefault(variant.name, []).append(one)
        if run.dropped:
            notes[f"{group[0].name} does not know {', '.join(run.dropped)}: left out."] = None
    scores = {one.name: score(figures[one.name]) for one in wanted if one.name in figures}
    judged, reasons, reach = scores.get(JOINT.name), _reasons(results), _reach(results)
    (trace,), (oracle,) = load["trace"].values(), load["oracle"].values()
    return Shown(
        name=prepared.case.name,
        scale=prepared.scale,
        hours=trace["seconds"] / 3600,
        instances=oracle["instances_mean"],
        ttft=prepared.case.ttft,
        ratio=_ratio(prepared),
        scores=scores,
        missing=missing,
        verdict=None if judged is None else verdict(judged, scores.get(HPA.name), reasons, reach),
        notes=tuple(notes),
        reasons=reasons,
    )


def _reasons(results: Sequence[tuple[Group, Run | NoHistoryError]]) -> list[Why]:
    """Return why the joint policy missed what it missed, seed by seed, HPA's run of the seed beside."""
    tables = {
        (variant.name, seed): run.tables
        for (group, seed), run in results
        if isinstance(run, Run) and run.tables is not None
        for variant in group
    }
    found = []
    for (name, seed), folder in tables.items():
        if name == JOINT.name:
            rival = tables.get((HPA.name, seed))
            found.append(why(folder, STARTUP, minutes_in(rival, HPA.policy) if rival else None))
    return found


def _reach(results: Sequence[tuple[Group, Run | NoHistoryError]]) -> Reach | None:
    """Return what rules could do on the joint policy's traffic, whose needs are in its first run."""
    for (group, _), run in results:
        if JOINT in group and isinstance(run, Run) and run.tables is not None:
            return reach_of(minutes_in(run.tables, JOINT.policy), STARTUP)
    return None


def _ratio(prepared: Prepared) -> str:
    written = yaml.safe_load(prepared.service)["spec"]["ratio"]
    if not isinstance(written, dict):
        return str(written)
    return f"{written['min']:g} to {written['max']:g} (fixed: {prepared.ratio})"
