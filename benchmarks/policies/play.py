"""One traffic: the pressure test, a scale that gives enough instances, and every variant's run.

Every run is a process of its own and leaves a folder with its figures. A folder whose stamp says that the
same was run before, with the same code, is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.policies.before import ROOT, NoHistoryError, Past, unknown_fields, unpack, without
from benchmarks.policies.cases import Case
from benchmarks.policies.variants import HPA, Variant

PROBE = {False: 100.0, True: 3.0}
"""Requests a row at which the scale is first tried: of a recording, and of a generator."""
PROBES = 4
SPARE = 1.08
"""The next guess is that much above what the last one says."""
NEAR = 1.2
"""Times as many instances as are wanted at least are near enough."""
CODE = (
    "proto/heteroscale",
    "coordinator/heteroscale_coordinator/core",
    "simulator",
    "workbench/heteroscale_workbench/pressure",
)
"""What a run's figures come from."""
TOLD = ("joint",)
"""Whose tables are kept."""
PEAK = Variant("static-peak", "static-peak")
Figures = dict[str, Any]


class FailedError(Exception):
    """A run ended badly; the text has its command and what it said."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all traffic shares."""

    place: Path
    """Folder of what is written."""
    traces: Path | None
    """Folder of recordings."""
    instances: float
    """Mean of the free oracle, at least."""
    revision: str
    """What *before* is."""
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A traffic that is ready to be played."""

    case: Case
    service: str
    """The document that the pressure test wrote."""
    ratio: str
    """The best split that it found."""
    scale: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    figures: Figures
    """The simulator's JSON."""
    tables: Path | None
    """Folder of its export, where one was asked for."""
    dropped: tuple[str, ...] = ()
    """Fields of the service that the revision does not know."""


def prepare(case: Case, ground: Ground) -> Prepared:
    """Find ratio, band and targets of a traffic, and the scale that it is played at.

    Raises:
        FailedError: a run ended badly.

    """
    folder = ground.place / case.name
    folder.mkdir(parents=True, exist_ok=True)
    service, found = folder / "chat.yaml", folder / "profile.json"
    stamp = _stamp(case.service(), case.traffic, str(ground.quick))
    if not (found.exists() and _same(folder, stamp)):
        service.write_text(case.service(), "utf-8")
        how = ("--units", 6, "--tolerance", 0.1, "--measure", 40) if ground.quick else ()
        words = (
            "profile",
            "--service",
            service,
            "--simulated",
            "--trace",
            case.trace(ground.traces),
        )
        _call([sys.executable, "-m", "heteroscale_cli", *map(str, (*words, *how, "--json", found))])
        _sign(folder, stamp)
    text = service.read_text("utf-8")
    scale = _scale(case, ground, text)
    return Prepared(case, text, json.loads(found.read_text("utf-8"))["ratio"], scale)


def _scale(case: Case, ground: Ground, service: str) -> float:
    """Return requests a row, in two digits, at which the free oracle needs its instances and few more.

    Needs are no multiples of the rate, for instances are whole: a first guess is tried and mended.
    """
    scale, oracle = PROBE[case.generated], 0.0
    for _ in range(PROBES):
        (found,) = (
            play(case, ground, service, [PEAK], scale=scale, seed=0).figures["oracle"].values()
        )
        oracle = found["instances_mean"]
        if ground.instances <= oracle <= NEAR * ground.instances:
            break
        scale = float(f"{SPARE * scale * ground.instances / oracle:.2g}")
    return scale


def play(
    case: Case,
    ground: Ground,
    service: str,
    group: Sequence[Variant],
    *,
    scale: float,
    seed: int,
) -> Run:
    """Play a traffic under variants that share a document, or give the run that is there already.

    Raises:
        FailedError: it ended badly.
        NoHistoryError: it is of a revision that is not here.

    """
    first = group[0]
    past = unpack(ground.revision, ground.place) if first.before else None
    title = "rivals" if first.rival and len(group) > 1 else first.name
    folder = ground.place / case.name / f"{title}-x{scale:g}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    words = _words(case, ground, group, scale, seed)
    stamp = _stamp(service, *words, past.revision if past else "")
    tables = folder / "tables" if first.name in TOLD or HPA in group else None
    if not (folder.joinpath("figures.json").exists() and _same(folder, stamp)):
        folder.joinpath("chat.yaml").write_text(service, "utf-8")
        dropped = _simulate(folder, words, tables, past)
        folder.joinpath("dropped.json").write_text(json.dumps(dropped), "utf-8")
        _sign(folder, stamp)
    return Run(
        json.loads(folder.joinpath("figures.json").read_text("utf-8")),
        tables,
        tuple(json.loads(folder.joinpath("dropped.json").read_text("utf-8"))),
    )


def groups(wanted: Sequence[Variant]) -> list[list[Variant]]:
    """Return who runs together: rivals, that read no policy; everyone else alone."""
    rivals = [one for one in wanted if one.rival]
    return [[one] for one in wanted if not one.rival] + ([rivals] if rivals else [])


def _words(
    case: Case, ground: Ground, group: Sequence[Variant], scale: float, seed: int
) -> list[str]:
    words = [
        *("--fleet", ground.place / "fleet.yaml", "--trace", case.trace(ground.traces)),
        *("--rate-scale", f"{scale:g}", "--policy", ",".join(one.policy for one in group)),
        *("--seed", seed, "--quiet"),
        *(("--start", case.begin) if case.begin else ()),
        *(("--duration", case.duration) if case.duration else ()),
    ]
    return [str(word) for word in words]


def _simulate(
    folder: Path, words: Sequence[str], tables: Path | None, past: Past | None
) -> list[str]:
    """Run the simulator. Returns the fields that had to be left out for an older one."""
    service, out = folder / "chat.yaml", folder / "figures.json"
    given = ["--service", str(service), *words, "--json", str(out)]
    given += ["--export", str(tables)] if tables else []
    if past is None:
        _call([sys.executable, "-m", "heteroscale_cli", "simulate", *given])
        return []
    command, dropped = past.command(given), list[str]()
    try:
        _call(command, past.path)
    except FailedError as error:
        dropped = unknown_fields(str(error))
        if not dropped:
            raise
        service.write_text(without(service.read_text("utf-8"), dropped), "utf-8")
        _call(command, past.path)
    return dropped


def _call(command: Sequence[str], path: str | None = None) -> None:
    environment = {**os.environ, **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise FailedError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _stamp(*words: str) -> str:
    return hashlib.sha256("\n".join((_code(), *words)).encode()).hexdigest()


@cache
def _code() -> str:
    """Return a digest of the code that figures come from: a changed policy is run again."""
    digest = hashlib.sha256()
    for path in sorted(one for part in CODE for one in (ROOT / part).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _same(folder: Path, stamp: str) -> bool:
    file = folder / "stamp"
    return file.exists() and file.read_text("utf-8") == stamp


def _sign(folder: Path, stamp: str) -> None:
    folder.joinpath("stamp").write_text(stamp, "utf-8")


__all__ = [
    "FailedError",
    "Ground",
    "NoHistoryError",
    "Prepared",
    "Run",
    "groups",
    "play",
    "prepare",
]
