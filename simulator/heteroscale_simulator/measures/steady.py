"""A few engines under a load whose rate stays: what becomes of requests, tokens and hardware.

The plant runs until decode's batches have filled (``settle``), then is watched, then runs on without
traffic until all that was watched is served, so that late requests count as late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.minutes import MINUTE, Minutes
from heteroscale_simulator.plant.port import Outcomes, Plant, Seat
from heteroscale_simulator.traffic.load import Floats, Load

MakePlant = Callable[[int], Plant]
"""Given the seconds that it will run."""


@dataclass(frozen=True)
class Mix:
    """Requests of a service, in classes; arrays of shape (classes,)."""

    name: str
    share: Floats
    """Of the requests; Σ is 1."""
    prompt: Floats
    """Mean prompt tokens."""
    output: Floats
    """Mean output tokens."""

    def load(self, rate: float, seconds: int, seed: int | None = None) -> Load:
        """Return ``rate`` requests/s of it, every second the same, or Poisson's where there is a seed."""
        requests = np.tile(rate * self.share, (seconds, 1))
        if seed is not None:
            requests = np.random.default_rng(seed).poisson(requests).astype(np.float64)
        return Load(requests, requests * self.prompt, requests * self.output)

    def minutes(self, rate: float) -> Minutes:
        """Return one minute of it."""
        return Minutes.of(self.load(rate, MINUTE))


@dataclass(frozen=True, slots=True)
class Line:
    """Seats of one role and GPU type."""

    role: Role
    gpu_type: str
    gpus: int
    count: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a steady load came to."""

    attainment: float
    """Joint, 0 to 1, of the requests that arrived while it was watched."""
    prompt_rate: float
    """Prompt tokens/s that arrived."""
    output_rate: float
    """Tokens/s generated, while it was watched."""
    gpu_util: dict[Role, float]
    """Mean over seconds and instances, 0 to 1; as is SM activity."""
    sm_activity: dict[Role, float]
    ttft: float | None
    """Mean seconds to the first token of those who had one; None: nobody had."""
    tbt: float | None
    """Mean over the finished of their mean seconds between tokens."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How long a load is looked at, in seconds."""

    settle: int
    watched: int = 60
    after: int = 15
    """The load stays so long after it: a fluid's seconds of arrival are not sharp at their ends."""
    patience: int = 300
    """At most so long until what was watched is served; what is not by then is missed."""
    seed: int | None = None
    """Of Poisson arrivals; None: every second is the same, as in the formulas."""

    @property
    def seconds(self) -> int:
        """In all."""
        return self.settle + self.watched + self.after + self.patience


def look(make: MakePlant, lines: list[Line], mix: Mix, rate: float, how: Watch) -> Seen:
    """Return what ``rate`` requests/s of ``mix`` come to on fresh engines, all in one S1."""
    plant = make(how.seconds)
    roles = _seat(plant, lines)
    load = mix.load(rate, how.settle + how.watched + how.after, how.seed)
    arriving = list(zip(load.requests, load.input_tokens, load.output_tokens, strict=True))
    hardware = np.zeros((how.watched, 2, len(roles)))
    begun = ended = 0.0
    for at in range(how.settle + how.watched):
        plant.advance(*arriving[at])
        if at >= how.settle - 1:
            readings = plant.readings()
            ended = float(readings.generation_tokens[_of(readings.ids, roles, Role.DECODE)].sum())
            if at < how.settle:
                begun = ended
            else:
                order = [readings.ids.index(name) for name in roles]
                hardware[at - how.settle] = (readings.gpu_util[order], readings.sm_activity[order])
    for at in range(how.settle + how.watched, load.seconds):
        plant.advance(*arriving[at])
    _serve_out(plant, len(mix.share), how)
    done, window = plant.outcomes(), slice(how.settle, how.settle + how.watched)
    means = hardware.mean(axis=0)
    return Seen(
        attainment=_met(done, window),
        prompt_rate=float(load.input_tokens[window].sum()) / how.watched,
        output_rate=(ended - begun) / how.watched,
        gpu_util={role: _mean(means[0], roles, role) for role in (Role.PREFILL, Role.DECODE)},
        sm_activity={role: _mean(means[1], roles, role) for role in (Role.PREFILL, Role.DECODE)},
        ttft=_quotient(done.ttft_sum[window], done.first_tokens[window]),
        tbt=_quotient(done.tbt_sum[window], done.finished[window]),
    )


def _seat(plant: Plant, lines: list[Line]) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for row, line in enumerate(lines):
        for number in range(line.count):
            name = f"{line.role.value}-{row}-{number}"
            domains = {"s0": name, "s1": "s1", "s2": "s2"}
            plant.join(Seat(name, line.role, line.gpu_type, line.gpus, domains))
            plant.open(name)
            roles[name] = line.role
    return roles


def _serve_out(plant: Plant, classes: int, how: Watch) -> None:
    nothing = np.zeros(classes)
    for _ in range(how.patience):
        done = plant.outcomes()
        if float((done.arrived - done.finished - done.failed).sum()) < 1e-6 * done.arrived.sum():
            return
        plant.advance(nothing, nothing, nothing)


def _met(done: Outcomes, window: slice) -> float:
    """Return the share met of those who arrived in the window.

    A fluid's requests may be told a second early or late, so the met are held against those who were
    told to have ended in the same seconds; who never ended has missed.
    """
    ended = done.finished + done.failed
    total = float(ended[window].sum())
    everybody = float(ended.sum() / done.arrived.sum())
    return float(done.met[window].sum()) / total * min(1.0, everybody) if total else 0.0


def _quotient(total: Floats, count: Floats) -> float | None:
    number = float(count.sum())
    return float(total.sum()) / number if number else None


def _of(ids: Sequence[str], roles: dict[str, Role], role: Role) -> list[int]:
    return [row for row, name in enumerate(ids) if roles[name] is role]


def _mean(values: Floats, roles: dict[str, Role], role: Role) -> float:
    return float(np.mean([v for v, r in zip(values, roles.values(), strict=True) if r is role]))
