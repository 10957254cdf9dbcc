"""``python -m benchmarks.placement.speed NODES SERVICES``: one size, in a process of its own.

A fleet of three GPU types, part of its nodes used by others, and services that stand there already. Times
are CPU time of one core, for whoever shares the machine is no concern of placement; beside them stands a
loop of plain Python work, timed in the same process before and after, so that a figure of another machine
can be compared.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.placement.cases import TEMPLATE, fleet_of
from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    Cycle,
    FleetView,
    Infeasible,
    NodeView,
    Outcome,
    Placed,
    Request,
    Standing,
)
from heteroscale_coordinator.core.placing import ANSWERS, PLACES
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec
from heteroscale_coordinator.edge.memory import THRESHOLDS
from heteroscale_simulator.inventory import Kind, Wish

STEPS = 100
"""Steps timed one by one."""
UPDATES = 2000
REQUESTS_A_NODE = 0.1
"""Of a cycle: 1,000 on 10,000 nodes."""
PIECE_MS = 20.0
"""A turn's piece may take so long, so that reports are folded meanwhile."""
REPORTS_A_REQUEST = 4
"""Reports folded for each request: of 10,000 agents come 2,000 a second."""
USED = 0.4
"""Share of the nodes that others use in part."""
PRIORITIES = 4
IMPOSSIBLE = 0.05
"""Share of a cycle's requests that nothing can hold."""
LEVELS: Sequence[Literal["s1", "s2", "cluster"]] = ("s1", "s2", "s2", "cluster")
LOOPS = 200_000


@dataclass(slots=True)
class Figures:
    """One size. Milliseconds unless it is said."""

    nodes: int
    services: int
    gpus: int
    build_s: float = 0.0
    view_mib: float = 0.0
    """What the view takes beside the nodes themselves."""
    update_us: float = 0.0
    """A node's change, mean."""
    step_ms: float = 0.0
    """A step into the view, median."""
    step_p99_ms: float = 0.0
    no_ms: float = 0.0
    """A step that nothing can hold, with its reasons, median."""
    cycle_s: float = 0.0
    """A request for every ten nodes, and the reports between them."""
    placed: int = 0
    refused: int = 0
    pieces: int = 0
    pieces_in_time: float = 0.0
    """Share of the cycle's pieces that took at most ``PIECE_MS``."""
    longest_ms: float = 0.0
    collector_ms: float = 0.0
    """The longest stop of Python's garbage collector in the cycle; a piece's time has it in it."""
    loop_ms: float = 0.0
    """The calibration loop."""


def measure(nodes: int, services: int, seed: int = 0) -> Figures:
    """Measure one size."""
    dice = np.random.default_rng([seed, nodes, services])
    there = [_used(node, dice) for node in fleet_of(_wish(nodes))]
    found = Figures(nodes, services, sum(len(node.gpu_types) for node in there))
    first = calibrate()
    before = _memory_mib()
    began = time.process_time()
    view = FleetView(there)
    found.build_s = time.process_time() - began
    found.view_mib = _memory_mib() - before
    asks = list(_asks(services, dice))
    standing = {ask.service: _stand(view, ask) for ask in asks[: _fit(asks, found.gpus)]}
    _time_updates(view, there, dice, found)
    _time_steps(view, asks, standing, found)
    _time_cycle(view, asks, standing, dice, found)
    found.loop_ms = (first + calibrate()) / 2
    return found


def calibrate() -> float:
    """Return the milliseconds of a loop of what placement does much: look up, compare, make tuples."""
    table = {str(number): number for number in range(1000)}
    began = time.process_time()
    best = (0, "")
    for number in range(LOOPS):
        key = str(number % 1000)
        best = max(best, (table[key] ^ number, key))
    return 1000 * (time.process_time() - began)


def _wish(nodes: int) -> Wish:
    kinds = (("H20", 0.6), ("H100", 0.3), ("L20", 0.1))
    return Wish(
        tuple(Kind(name, max(1, round(share * nodes))) for name, share in kinds),
        mixed_s2=0.3,
        mixed_s1=0.1 if nodes >= 1000 else 0.0,
    )


def _used(node: NodeView, dice: np.random.Generator) -> NodeView:
    if dice.random() >= USED:
        return node
    return replace(node, free=node.free[: int(dice.integers(0, len(node.free) + 1))])


def _asks(services: int, dice: np.random.Generator) -> Iterator[Ask]:
    types = ("H20", "H100", "L20")
    weights = (0.6, 0.3, 0.1)
    for number in range(services):
        first, second = (types[int(index)] for index in dice.choice(3, size=2, p=weights))
        pair = (first, second if number % 2 else first)
        roles = {
            role: RoleSpec(template=TEMPLATE, gpu_types=(kind,), gpus=int(dice.choice([1, 2, 4])))
            for role, kind in zip((Role.PREFILL, Role.DECODE), pair, strict=True)
        }
        level = LEVELS[number % len(LEVELS)]
        delta = {Role.PREFILL: int(dice.integers(1, 3)), Role.DECODE: int(dice.integers(1, 5))}
        yield Ask(f"s{number:04d}", roles, delta, PlacementSpec(affinity=level))


def _fit(asks: Sequence[Ask], gpus: int) -> int:
    """Return how many services may stand in a third of the GPUs."""
    left = gpus / 3
    for number, ask in enumerate(asks):
        left -= sum(ask.roles[role].gpus * count for role, count in ask.delta.items())
        if left < 0:
            return number
    return len(asks)


def _stand(view: FleetView, ask: Ask) -> list[Standing]:
    found = view.place(ask, ())
    if isinstance(found, Infeasible):
        return []
    _hold(view, found)
    return [
        Standing(
            f"{ask.service}-{number}",
            spot.role,
            tuple(rank.agent_id for rank in spot.ranks),
            spot.group,
            gpu_type=spot.gpu_type,
        )
        for number, spot in enumerate(found.spots)
    ]


def _hold(view: FleetView, placed: Placed) -> None:
    for spot in placed.spots:
        for rank in spot.ranks:
            view.hold(rank.agent_id, rank.gpu_indices)


def _time_updates(
    view: FleetView, nodes: Sequence[NodeView], dice: np.random.Generator, found: Figures
) -> None:
    """A node loses a GPU, then has it back."""
    with_room = [node for node in nodes if node.free]
    chosen = [with_room[int(i)] for i in dice.integers(0, len(with_room), UPDATES // 2)]
    changed = [replace(node, free=node.free[1:]) for node in chosen]
    began = time.process_time()
    for less, whole in zip(changed, chosen, strict=True):
        view.put(less)
        view.put(whole)
    found.update_us = 1e6 * (time.process_time() - began) / (2 * len(chosen))


def _time_steps(
    view: FleetView,
    asks: Sequence[Ask],
    standing: Mapping[str, Sequence[Standing]],
    found: Figures,
) -> None:
    times, refused = [], []
    for number in range(STEPS):
        ask = asks[number % len(asks)]
        began = time.process_time()
        view.place(ask, standing.get(ask.service, ()))
        times.append(1000 * (time.process_time() - began))
    for number in range(STEPS // 5):
        ask = _impossible(asks[number % len(asks)])
        began = time.process_time()
        view.place(ask, standing.get(ask.service, ()))
        refused.append(1000 * (time.process_time() - began))
    found.step_ms = float(np.median(times))
    found.step_p99_ms = float(np.quantile(times, 0.99))
    found.no_ms = float(np.median(refused))


def _impossible(ask: Ask) -> Ask:
    """Return an instance of more nodes than any S1 has, which must be in one."""
    roles = {
        role: spec.model_copy(update={"gpus": 8, "ranks": 32}) for role, spec in ask.roles.items()
    }
    walls = PlacementSpec(affinity="s1", required=True)
    return replace(ask, roles=roles, delta=dict.fromkeys(ask.delta, 1), placement=walls)


def _time_cycle(
    view: FleetView,
    asks: Sequence[Ask],
    standing: Mapping[str, Sequence[Standing]],
    dice: np.random.Generator,
    found: Figures,
) -> None:
    """Run a cycle in the turn's pieces, fold reports in between, and check it when it is committed."""
    reports = [node for node in view if node.free]
    number = round(REQUESTS_A_NODE * found.nodes)
    hopeless = dice.random(number) < IMPOSSIBLE
    picked = dice.integers(0, len(reports), (number, REPORTS_A_REQUEST))
    priorities = dice.integers(0, PRIORITIES, number)
    wanted = [asks[n % len(asks)] for n in range(number)]
    requests = [
        Request(
            _impossible(ask) if hopeless[n] else ask,
            standing.get(ask.service, ()),
            priority=int(priorities[n]),
        )
        for n, ask in enumerate(wanted)
    ]
    gc.freeze()  # As the coordinator does when it has read the fleet.
    stops = _Stops()
    gc.callbacks.append(stops)
    began = time.process_time()
    cycle = Cycle(view, requests)
    pieces = [1000 * (time.process_time() - began)]
    done, given, outcomes = False, 0, list[Outcome]()
    while not cycle.over:
        started = time.process_time()
        done = done or cycle.advance(number, PLACES)
        outcomes += (cycle.commit(ANSWERS) or ()) if done else ()
        pieces.append(1000 * (time.process_time() - started))
        served = number - cycle.left
        for index in picked[given:served].ravel():
            node = reports[int(index)]
            view.put(replace(node, free=node.free[1:]))
            view.put(node)
        given = served
    found.cycle_s = time.process_time() - began
    found.placed = sum(isinstance(one.placed, Placed) for one in outcomes)
    found.refused = len(outcomes) - found.placed
    found.pieces = len(pieces)
    found.pieces_in_time = sum(piece <= PIECE_MS for piece in pieces) / len(pieces)
    found.longest_ms = max(pieces)
    gc.callbacks.remove(stops)
    found.collector_ms = stops.longest_ms
    cycle.end()


class _Stops:
    """Times the garbage collector."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._began = 0.0

    def __call__(self, phase: str, info: object) -> None:
        """Hear from the collector that it begins or ends."""
        del info
        now = time.process_time()
        if phase == "stop":
            self.longest_ms = max(self.longest_ms, 1000 * (now - self._began))
        self._began = now


def _memory_mib() -> float:
    """Return the memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main(argv: Sequence[str]) -> int:
    """Print the figures of one size as JSON."""
    nodes, services = map(int, argv)
    gc.set_threshold(*THRESHOLDS)  # as the coordinator does
    print(json.dumps(asdict(measure(nodes, services))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
