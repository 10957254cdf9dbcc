"""What a command line names, read and checked against each other: services, fleet, speeds, traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from heteroscale.documents import read_one
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ModelSpec, ServiceDocument, ServiceSpec
from heteroscale_coordinator.zones import UnknownZoneError, resolve
from heteroscale_simulator.command.arguments import Options, UsageError
from heteroscale_simulator.command.progress import Watch
from heteroscale_simulator.fleet import Fleet, load_fleet
from heteroscale_simulator.profiles import EngineProfile, load_profile, shipped_profiles
from heteroscale_simulator.profiles.catalogue import DEFAULT_MODEL, speeds_for
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.source import load_source
from heteroscale_simulator.traffic.summary import summary

ROLES = (Role.PREFILL, Role.DECODE)
V = TypeVar("V")


@dataclass(frozen=True)
class Asked:
    """One service, its traffic, and the speeds of its engines by role."""

    name: str
    spec: ServiceSpec
    load: Load
    speeds: Mapping[Role, EngineProfile]
    initial: Mapping[Role, int] | None


@dataclass(frozen=True)
class Inputs:
    """All that a run needs, whatever the policy."""

    services: Sequence[Asked]
    fleet: Fleet
    prices: Mapping[str, float]
    """Of a GPU-hour, by GPU type."""
    notes: Sequence[str]

    @property
    def seconds(self) -> int:
        """Length of the longest trace; all loads are as long."""
        return self.services[0].load.seconds


def read(asked: Options, told: Watch) -> Inputs:
    """Read everything; the quick files first, so that a slip is told before a long trace is read.

    Raises:
        DocumentError: a document is wrong, with file, line and field.
        ValueError: anything else is, with what would be right.

    """
    fleet = _readable(asked.fleet, load_fleet)
    specs = [_readable(path, _service) for path in asked.services]
    names = [name for name, _ in specs]
    for path, name in zip(asked.services, names, strict=True):
        if names.count(name) > 1:
            raise UsageError(f"{path}: two services are named {name}; give each a name of its own")
    speeds = [_speeds(name, spec, fleet, asked) for name, spec in specs]
    loads = [_load(index, asked, told) for index in range(len(specs))]
    seconds = max(load.seconds for load in loads)
    services = [
        Asked(name, spec, _as_long(load, seconds), speed, _counts(first))
        for (name, spec), load, speed, first in zip(
            specs, loads, speeds, asked.initial, strict=True
        )
    ]
    notes = [
        note for one, load in zip(services, loads, strict=True) for note in _notes(one, load, asked)
    ]
    return Inputs(services, fleet, fleet.prices(), notes)


def _readable(path: Path, read: Callable[[Path], V]) -> V:
    try:
        return read(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _service(path: Path) -> tuple[str, ServiceSpec]:
    document = read_one(path, "Service").parse(ServiceDocument)
    name, spec = document.metadata.name, document.spec
    if (schedule := spec.policy.schedule) is not None:
        try:
            resolve(schedule.time_zone, 0.0)
        except UnknownZoneError as error:
            raise UsageError(f"{path}: spec.policy.schedule.timeZone: {error}") from error
    if Role.PREFILL not in spec.roles:
        kind = "split into attention and ffn" if spec.split else "aggregated"
        raise UsageError(
            f"{path}: {name} is {kind}; a simulation needs a service with the roles prefill and "
            "decode (see examples/)"
        )
    return name, spec


def _speeds(
    name: str, spec: ServiceSpec, fleet: Fleet, asked: Options
) -> Mapping[Role, EngineProfile]:
    """Return how fast each role's engines are on the GPU types that it can get."""
    there = fleet.spec.gpu_types
    found = {}
    for role in ROLES:
        wanted = spec.roles[role].gpu_types
        types = [kind for kind in wanted or there if kind in there]
        if not types:
            raise UsageError(
                f"{role} of {name} wants {' or '.join(wanted)}, the fleet has "
                f"{', '.join(sorted(there))}: change gpuTypes, or add a pool"
            )
        gpus = spec.roles[role].gpus * spec.roles[role].ranks
        engine = (spec.model, types, gpus)
        profile = _profile(f"{role} of {name}", engine, asked.profiles or fleet.profiles, asked)
        transfer = fleet.spec.network.over(profile.transfer)
        found[role] = profile.model_copy(update={"transfer": transfer})
    return found


def _profile(
    who: str,
    engine: tuple[ModelSpec | None, Sequence[str], int],
    source: Path | None,
    asked: Options,
) -> EngineProfile:
    """Return speeds of (model, GPU types, GPUs of an instance)."""
    model, types, gpus = engine
    if source is not None and source.is_file():
        return _written(who, str(source), types)
    if source is not None and not source.is_dir():
        if str(source) in shipped_profiles():
            return _written(who, str(source), types)
        raise UsageError(f"{source}: no such folder of tables, nor a profile's file")
    try:
        return speeds_for(model, types, gpus, source, extend=asked.extend_profiles)
    except ValueError as error:
        raise UsageError(f"{who}: {error}") from error


def _written(who: str, source: str, types: Sequence[str]) -> EngineProfile:
    """Return a profile that is one document, and has the types that are needed."""
    profile = load_profile(source)
    missing = [kind for kind in types if kind not in profile.gpus]
    if missing:
        raise UsageError(
            f"{who}: {source} has no speeds of {', '.join(missing)}, only of "
            f"{', '.join(sorted(profile.gpus))}: add them, or leave --profiles out"
        )
    return profile.model_copy(update={"gpus": {kind: profile.gpus[kind] for kind in types}})


def _load(index: int, asked: Options, told: Watch) -> Load:
    trace = asked.traces[index]
    tell = told.stage(f"reading {Path(trace).name}")
    load = load_source(
        trace,
        asked.rate_scales[index],
        asked.seed + index,
        asked.classes,
        lambda share: tell(share, 1.0),
    )
    return _cut(load, trace, asked.start, asked.duration)


def _cut(load: Load, trace: str, start: float, duration: float | None) -> Load:
    """Return the seconds from ``start`` on, for ``duration``."""
    first = round(start)
    if first >= load.seconds:
        raise UsageError(
            f"--start {start:g}s: {trace} is over by then, it lasts {load.seconds} s; start earlier"
        )
    part = load.cut(first, None if duration is None else round(duration))
    if not part.total_requests:
        raise UsageError(
            f"{trace}: not one request arrives from {first} s to {first + part.seconds} s of it"
        )
    return part


def _as_long(load: Load, seconds: int) -> Load:
    """Return the load with silence after its end: another service's trace is longer."""
    rest = seconds - load.seconds
    if rest <= 0:
        return load
    silence = np.zeros((rest, load.classes))
    columns = (load.requests, load.input_tokens, load.output_tokens)
    requests, prompt, output = (np.concatenate((column, silence)) for column in columns)
    return Load(requests, prompt, output, load.notes)


def _counts(first: tuple[int, int] | None) -> Mapping[Role, int] | None:
    return None if first is None else dict(zip(ROLES, first, strict=True))


def _notes(service: Asked, load: Load, asked: Options) -> Iterator[str]:
    """Yield what a reader should know of where traffic and speeds come from.

    ``load`` is the trace as it was read, without the silence that waits for a longer one.
    """
    for note in summary(load).warnings():
        yield f"{service.name}: {note}"
    if service.spec.model is None:
        yield (
            f"{service.name} names no model; its speeds are those of {DEFAULT_MODEL.name}, "
            f"{DEFAULT_MODEL.weights}"
        )
    gpus = [item for profile in service.speeds.values() for item in profile.gpus.items()]
    estimated = {kind for kind, gpu in gpus if gpu.source == "estimated"}
    if estimated:
        yield (
            f"{service.name}: speeds of {', '.join(sorted(estimated))} are roofline estimates, "
            "not measured"
        )
    for kind, gpu in dict(gpus).items():
        if asked.extend_profiles and gpu.source == "extended" and gpu.measured is not None:
            yield (
                f"{service.name}: speeds of {kind} are estimates beyond prompts of "
                f"{gpu.measured.prompt:,.0f} and contexts of {gpu.measured.context:,.0f} tokens"
            )
