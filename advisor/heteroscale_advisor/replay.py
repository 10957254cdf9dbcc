"""The joint policy over a history, in virtual time: the coordinator's own turn, on engines as seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from heteroscale.words import InstanceState, Role
from heteroscale_advisor.history import History, quantile, ratio
from heteroscale_advisor.load import Arrivals, arrivals
from heteroscale_advisor.model import RoleModel, held_ratio, latencies_of, wanted_ratio
from heteroscale_advisor.plant import SeenPlant
from heteroscale_advisor.policy import PAIR, as_watched, fleet_of, gpus_of, models_of, service_of
from heteroscale_advisor.presence import Bools, Floats
from heteroscale_advisor.wishes import Wishes
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.world import simulation
from heteroscale_simulator.world.result import Decision, WorldResult

Tell = Callable[[float, float], None]


@dataclass(frozen=True)
class Kept:
    """Shares of requests within the SLO, 0 to 1; None where latency is unknown."""

    ttft: float | None
    tbt: float | None
    both: float | None


@dataclass(frozen=True)
class Side:
    """What was held, or would have been, over the known slots."""

    gpu_hours: float
    kept: Kept
    counts: Mapping[Role, Floats]
    """Instances that hold GPUs, by slot."""
    gpus: Floats
    """GPUs of all of them, by slot."""


@dataclass(frozen=True)
class Replay:
    """The two sides, and what they rest on."""

    spec: ServiceSpec
    models: Mapping[Role, RoleModel]
    came: Arrivals
    known: Bools
    held: Side
    held_by_model: Kept
    """What the model says of the counts that were held: to be compared with what was measured."""
    joint: Side
    decisions: tuple[Decision, ...]
    holds: Mapping[str, int]
    wanted: Floats
    """Prefill per decode that the work asked for, by slot."""
    had: Floats
    """Prefill per decode that was there."""

    @property
    def saved(self) -> float | None:
        """Share of the GPU-hours held that the policy would not have needed; below 0: it needs more."""
        if not self.held.gpu_hours:
            return None
        return 1 - self.joint.gpu_hours / self.held.gpu_hours


def replay(history: History, wishes: Wishes, told: Tell) -> Replay:
    """Return what the joint policy would have done, beside what was held.

    Raises:
        ValueError: there is too little to go by, with what would help.

    """
    models = models_of(history, wishes)
    spec = service_of(history, models, wishes)
    came, known, step = arrivals(history), history.known, round(history.grid.step)
    if not known.any():
        raise ValueError(
            "there is no moment at which all instances of both roles are known: a hole in any of them "
            "hides how much was done. Does Prometheus reach them all (`up`)? Take another time: --since"
        )
    result = _play(history, wishes, spec, models, came, told=told)
    own = result.services[wishes.service]
    gpus = {role: gpus_of(history, wishes, role) for role in models}
    counts = {role: _counts(result.intervals, role, history.grid.points, step) for role in models}
    there = {role: history.roles[role].count for role in models}
    return Replay(
        spec=spec,
        models=models,
        came=came,
        known=known,
        held=_side(there, gpus, known, step, _measured(history, models, came)),
        held_by_model=_modelled(history, models, came),
        joint=_side(counts, gpus, known, step, _played(own.outcomes, history)),
        decisions=own.decisions,
        holds=own.holds,
        wanted=np.where(known, wanted_ratio(history, models), np.nan),
        had=np.where(known, held_ratio(history), np.nan),
    )


def _play(
    history: History,
    wishes: Wishes,
    spec: ServiceSpec,
    models: Mapping[Role, RoleModel],
    came: Arrivals,
    *,
    told: Tell,
) -> WorldResult:
    """Let the policy hold the engines that were seen, through the work that came."""
    known, step = history.known, round(history.grid.step)
    first = history.roles[PAIR[0] if PAIR[0] in models else Role.AGGREGATED]
    prompts = quantile(ratio(first.values["prompt_tokens"], came.prefill), 0.5, known)
    plant = SeenPlant(models, np.repeat(known, step), max(1.0, prompts or 1.0))
    watched = as_watched(spec)
    run = simulation.ServiceRun(
        wishes.service,
        watched,
        came.load(step, known),
        plant,
        _initial(history, spec),
        yields=True,
    )
    return simulation.simulate(
        [run], fleet_of(watched, wishes), None, 0, told, clock=history.grid.start
    )


def _played(outcomes: Outcomes, history: History) -> Kept:
    """Return the shares of requests of known slots that were within the SLO."""
    seconds, step = history.grid.seconds, round(history.grid.step)
    arrived = float((np.repeat(history.known, step) * outcomes.arrived[:seconds]).sum())
    kept = (outcomes.ttft_met, outcomes.tbt_met, outcomes.met)
    return Kept(*(_share(float(column[:seconds].sum()), arrived) for column in kept))


def _initial(history: History, spec: ServiceSpec) -> Mapping[Role, int]:
    """Return the counts of the first known slot, inside the bounds."""
    first = int(np.flatnonzero(history.known)[0])
    return {
        role: int(min(max(history.roles[role].count[first], asked.min), asked.max))
        for role, asked in spec.roles.items()
    }


def _counts(intervals: tuple[Interval, ...], role: Role, points: int, step: int) -> Floats:
    """Return the mean number of instances that hold GPUs, by slot."""
    counts = np.zeros(points)
    starts = np.arange(points) * float(step)
    for one in intervals:
        if one.role is role and one.state is not InstanceState.TERMINATED:
            shared = np.minimum(starts + step, one.end) - np.maximum(starts, one.begin)
            counts += np.maximum(shared, 0.0) / step
    return counts


def _side(
    counts: Mapping[Role, Floats], gpus: Mapping[Role, int], known: Bools, step: float, kept: Kept
) -> Side:
    held = np.sum([counts[role] * gpus[role] for role in gpus], axis=0)
    hours = float(np.where(known, held, 0.0).sum()) * step / 3600
    return Side(hours, kept, counts, np.where(known, held, np.nan))


def _measured(history: History, models: Mapping[Role, RoleModel], came: Arrivals) -> Kept:
    seen = {
        name: history.roles[role].mean(name) for name, (role, _) in latencies_of(models).items()
    }
    return _kept(seen, models, came, history.known)


def _modelled(history: History, models: Mapping[Role, RoleModel], came: Arrivals) -> Kept:
    seen = {
        name: np.array([latency.at(load) or np.nan for load in history.roles[role].load])
        for name, (role, latency) in latencies_of(models).items()
    }
    return _kept(seen, models, came, history.known)


def _kept(
    latencies: Mapping[str, Floats],
    models: Mapping[Role, RoleModel],
    came: Arrivals,
    known: Bools,
) -> Kept:
    """Return the shares of requests in slots whose mean latency kept the promise."""
    weights = np.where(known & np.isfinite(came.requests), came.requests, 0.0)
    ok, told = {}, {}
    for name, (_, latency) in latencies_of(models).items():
        limit = latency.promise.seconds
        seen = np.isfinite(latencies[name])
        told[name] = bool((seen & (weights > 0)).any()) or limit is None
        # Nothing ran, so nothing was late.
        ok[name] = np.ones(len(weights), dtype=np.bool_)
        if limit is not None:
            ok[name] = ~seen | (latencies[name] <= limit)
    total = float(weights.sum())

    def share(mask: Bools) -> float | None:
        return _share(float(weights[mask].sum()), total)

    return Kept(
        share(ok["ttft"]) if told["ttft"] else None,
        share(ok["tbt"]) if told["tbt"] else None,
        share(ok["ttft"] & ok["tbt"]) if told["ttft"] and told["tbt"] else None,
    )


def _share(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole else None
