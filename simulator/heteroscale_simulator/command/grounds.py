"""What is known of a service before any run: the limits it is held against, and rivals' targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.command.inputs import Asked
from heteroscale_simulator.fleet import FleetSpec
from heteroscale_simulator.measures import oracle
from heteroscale_simulator.measures.capacity import Journey, Offer
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.minutes import MINUTE, Minutes
from heteroscale_simulator.measures.need import Case
from heteroscale_simulator.measures.targets import targets
from heteroscale_simulator.plant.port import Slo, Workload
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.profiles import RangeError

BURST = 10
"""Seconds of a minute by which the limits size a role: the busiest so many; 60 are its mean.

A first token that is promised within a second or two cannot wait for a minute's mean. Decode evens out
what is shorter than a request stays, so its seconds are as many as that, where it is longer."""


def slo_of(spec: ServiceSpec) -> Slo:
    """Return the promise of a service."""
    return Slo(ttft=spec.slo.ttft, tbt=spec.slo.tbt)


def grounds(service: Asked, fleet: FleetSpec, workload: Workload) -> Grounds:
    """Return the oracles of one service that has the fleet to itself, and its instances' capacities.

    The oracle's start-up is the median one, and its KV goes the way that the service asks for.

    Raises:
        ValueError: a role has no GPU type that holds the SLO, or the fleet cannot hold one instance.

    """
    speeds = service.speeds[Role.PREFILL]
    link = speeds.transfer.link(service.spec.placement.affinity)
    journey = Journey(slo_of(service.spec), workload, link, speeds.kv_bytes_per_token)
    case = Case(
        Minutes.of(service.load),
        _offers(service, fleet),
        journey,
        fleet.gpu_types,
        Minutes.busiest(service.load, BURST),
        Minutes.busiest(service.load, _stay(service), "output_tokens"),
    )
    try:
        wanted = oracle.needs(case)
        against = Limits(oracle.free(wanted), oracle.fixed(wanted), oracle.static_peak(wanted))
        return Grounds(targets(case), against)
    except RangeError:
        raise
    except ValueError as error:
        raise ValueError(f"{service.name}: {error}") from error


def _stay(service: Asked) -> int:
    """Return how many seconds a request may decode at the promised TBT, from a burst to a minute."""
    outputs = service.load.output_tokens.sum() / max(service.load.total_requests, 1.0)
    tbt = service.spec.slo.tbt
    return round(min(max(BURST, outputs * tbt), MINUTE)) if tbt else BURST


def _offers(service: Asked, fleet: FleetSpec) -> Mapping[Role, Sequence[Offer]]:
    offers = {}
    for role, profile in service.speeds.items():
        asked = service.spec.roles[role]
        offers[role] = [
            Offer(kind, asked.gpus * asked.ranks, speed, _lead(fleet, kind))
            for kind, speed in profile.gpus.items()
        ]
    return offers


def _lead(fleet: FleetSpec, kind: str) -> float:
    """Return the seconds from a launch until traffic arrives."""
    return fleet.command_delay + fleet.startup_of(kind).median + fleet.gate.opening
