"""A week of arrivals, scale-outs, scale-ins and departures under each placer, on the same fleet.

A step that finds no place is refused whole and asked for again with the service's next hour. What stands
is looked at every hour: the means over these looks are the figures.
"""

from __future__ import annotations

import csv
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path

from benchmarks.placement.cases import fleet_of
from benchmarks.placement.judge import Judge
from benchmarks.placement.keep import Found, Kept
from benchmarks.placement.placers import PLACERS
from benchmarks.placement.port import Held, Placer
from benchmarks.placement.week import HOUR, Tenant, Wanted, week
from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, NodeView
from heteroscale_coordinator.core.topology import SubgroupClass
from heteroscale_simulator.inventory import Kind, Wish
from heteroscale_simulator.profiles.transfer import DEFAULT_TRANSFER

INVENTORY = "nodes_alibaba_openb2023.csv"
LEAST_NODES = 4000
MADE_UP = (Kind("H20", 2400), Kind("H100", 1200), Kind("L20", 600))
SMALL = (Kind("H20", 60), Kind("H100", 30))


@dataclass(slots=True)
class Week:
    """What a week under one placer came to. Shares are of one."""

    placer: str
    nodes: int
    gpus: int
    services: int
    asked: int = 0
    """Steps that add instances."""
    refused: int = 0
    unserved: float = 0.0
    """GPU-hours wanted and not held, as a share of those wanted."""
    high_waste: float = 0.0
    """High-class GPUs held by services that any other class would do for."""
    cross_s2: float = 0.0
    """KV traffic that must leave its S2."""
    fragmented: float = 0.0
    """Free GPUs that are on nodes in part used."""
    kv_lost: float = 0.0
    """KV bandwidth lost, against prefill and decode below one S1."""
    seconds: float = 0.0
    """Of one core, for all decisions."""


def weeks(
    traces: Path | None,
    *,
    hours: int,
    small: bool,
    kept: Kept,
    seed: int,
    say: Callable[[str], None],
) -> list[Week]:
    """Live the week under every placer."""
    wish = fleet_wish(traces, small=small)
    nodes = fleet_of(wish)
    events = week(nodes, hours, seed)
    found = []
    for name, make in PLACERS.items():

        def live(name: str = name, make: Callable[[Sequence[NodeView]], Placer] = make) -> Found:
            return asdict(Life(name, make(nodes), nodes).live(events, hours))

        had = kept.get(f"churn-{name}", f"{wish} {hours} {seed}", live)
        found.append(Week(**{key: value for key, value in had.items() if key != "stamp"}))
        say(f"churn: {name}, {len(nodes)} nodes, {hours} hours")
    return found


def fleet_wish(traces: Path | None, *, small: bool) -> Wish:
    """Return the fleet to live on: an inventory of real nodes grown to thousands, else a made-up one."""
    if small:
        return Wish(SMALL, ports=4, s1_per_s2=4, mixed_s1=0.15, mixed_s2=0.5, name="small")
    if traces is None:
        return Wish(MADE_UP, name="made-up")
    counts: Counter[tuple[str, int]] = Counter()
    with (traces / INVENTORY).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["gpu"]):
                counts[row["model"], int(row["gpu"])] += int(row["nodes"])
    times = ceil(LEAST_NODES / counts.total())
    kinds = tuple(Kind(name, times * nodes, gpus) for (name, gpus), nodes in sorted(counts.items()))
    return Wish(kinds, name="grown")


@dataclass(slots=True)
class _Home:
    """A service and what stands of it."""

    tenant: Tenant
    held: list[Held] = field(default_factory=list)
    wanted: Mapping[Role, int] = field(default_factory=dict)
    flows: tuple[float, float] | None = None
    """Shares of its KV traffic that stay inside an S1, and inside an S2; None: to be worked out."""

    def gpus(self, counts: Mapping[Role, int]) -> int:
        """Return the GPUs of so many instances."""
        return sum(self.tenant.roles[role].gpus * count for role, count in counts.items())


class Life:
    """One placer's week."""

    def __init__(self, name: str, placer: Placer, nodes: Sequence[NodeView]) -> None:
        self._placer, self._judge = placer, Judge(nodes)
        self._sound = {n.agent_id: len(n.free) for n in nodes if n.usable and n.free}
        self._high = {
            agent for agent in self._sound if self._judge.tree.class_of(agent) is SubgroupClass.HIGH
        }
        self._homes: dict[str, _Home] = {}
        self._week = Week(name, len(nodes), sum(self._sound.values()), 0)
        self._born = 0
        self._sums: defaultdict[str, float] = defaultdict(float)

    def live(self, events: Sequence[Wanted], hours: int) -> Week:
        """Live through the events, and look once an hour."""
        looks = iter(range(1, hours + 1))
        next_look = next(looks)
        for event in events:
            while event.at >= next_look * HOUR:
                self._look()
                next_look = next(looks, hours + 1)
            began = time.process_time()
            self._hear(event)
            self._week.seconds += time.process_time() - began
        self._look()
        return self._told()

    def _hear(self, event: Wanted) -> None:
        name = event.tenant.name
        home = self._homes.get(name)
        if home is None:
            home = self._homes[name] = _Home(event.tenant)
            self._week.services += 1
        home.wanted = event.counts
        if not event.counts:
            self._leave(home, home.held)
            del self._homes[name]
            return
        have = Counter(held.spot.role for held in home.held)
        delta = {role: count - have[role] for role, count in event.counts.items()}
        self._shrink(home, {role: -n for role, n in delta.items() if n < 0}, event.at)
        self._grow(home, {role: n for role, n in delta.items() if n > 0}, event.at)

    def _grow(self, home: _Home, delta: Mapping[Role, int], now: float) -> None:
        if not delta:
            return
        tenant = home.tenant
        ask = Ask(tenant.name, tenant.roles, dict(delta), tenant.placement)
        spots = self._placer.place(ask, home.held, now)
        self._week.asked += 1
        if spots is None:
            self._week.refused += 1
            return
        self._judge.take(ask, spots)
        for spot in spots:
            self._born += 1
            home.held.append(Held(f"i{self._born:07d}", spot, now))
        home.flows = None

    def _shrink(self, home: _Home, delta: Mapping[Role, int], now: float) -> None:
        if delta:
            self._leave(home, list(self._placer.victims(delta, home.held, now)))

    def _leave(self, home: _Home, going: Sequence[Held]) -> None:
        gone = {held.instance_id for held in going}
        for held in going:
            self._placer.give(held.spot)
            self._judge.give(held.spot)
        home.held = [held for held in home.held if held.instance_id not in gone]
        home.flows = None

    # ---- looking -----------------------------------------------------------------------------

    def _look(self) -> None:
        sums = self._sums
        sums["looks"] += 1
        for home in self._homes.values():
            wanted = home.gpus(home.wanted)
            held = home.gpus(Counter(one.spot.role for one in home.held))
            sums["wanted"] += wanted
            sums["unserved"] += max(wanted - held, 0)
            if not home.tenant.needs_high:
                sums["waste"] += self._judge.high(one.spot for one in home.held)
            self._add_flows(home)
        free = {agent: len(self._judge.free[agent]) for agent in self._sound}
        sums["free"] += sum(free.values())
        sums["broken"] += sum(n for agent, n in free.items() if n < self._sound[agent])
        sums["high"] += sum(self._sound[agent] for agent in self._high)

    def _add_flows(self, home: _Home) -> None:
        decode = sum(one.spot.role is Role.DECODE for one in home.held)
        if home.flows is None:
            spots = [one.spot for one in home.held]
            home.flows = (self._judge.inside(spots, "s1"), self._judge.inside(spots, "s2"))
        near, wide = home.flows
        s1 = DEFAULT_TRANSFER.s1.gigabytes_per_second
        s2 = DEFAULT_TRANSFER.s2.gigabytes_per_second / s1
        beyond = DEFAULT_TRANSFER.cluster.gigabytes_per_second / s1
        self._sums["flow"] += decode
        self._sums["cross"] += decode * (1 - wide)
        self._sums["kv"] += decode * ((wide - near) * (1 - s2) + (1 - wide) * (1 - beyond))

    def _told(self) -> Week:
        sums, found = self._sums, self._week
        found.unserved = sums["unserved"] / max(sums["wanted"], 1)
        found.high_waste = sums["waste"] / max(sums["high"], 1)
        found.cross_s2 = sums["cross"] / max(sums["flow"], 1)
        found.fragmented = sums["broken"] / max(sums["free"], 1)
        found.kv_lost = sums["kv"] / max(sums["flow"], 1)
        return found
