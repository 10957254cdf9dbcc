"""The service as the policy is to see it: that of a file, or one made from what its history shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from heteroscale.words import Role
from heteroscale_advisor.history import LATENCIES, History, quantile
from heteroscale_advisor.model import (
    Promise,
    RoleModel,
    latencies_of,
    learn,
    promise_of,
    wanted_ratio,
)
from heteroscale_advisor.wishes import Wishes
from heteroscale_coordinator.core.spec import ServiceSpec, SloSpec
from heteroscale_coordinator.core.spec.actuation import ActuationSpec
from heteroscale_coordinator.core.spec.source import FRESHNESS, SourceSpec
from heteroscale_simulator.fleet import FleetSpec

PAIR = (Role.PREFILL, Role.DECODE)
ALONE = (Role.AGGREGATED,)
ADVISED = (*PAIR, *ALONE)
"""Roles that are advised on: the pair, or all in one."""
UNKNOWN_GPU = "GPU"
"""Name of a GPU type that nobody tells."""
_NODE = 8
_LOOKS, _FASTEST, _SLOWEST = 8640, 5.0, 15.0
"""Looks of the policy in a day; seconds between two, the least and the most."""


def plain_name(service: str) -> str:
    """Return a name that a service may have, of a model's: `meta-llama/Llama-3` is no such name."""
    made = re.sub(r"[^a-z0-9.-]+", "-", service.lower())[:63].strip("-.")
    return made or "service"


def models_of(history: History, wishes: Wishes) -> dict[Role, RoleModel]:
    """Return what each role's history shows. ValueError as ``learn``."""
    known = history.known
    slo = {"ttft": wishes.ttft, "tbt": wishes.tbt}
    if wishes.spec is not None:
        slo = {name: asked or getattr(wishes.spec.slo, name) for name, asked in slo.items()}
    return {
        role: learn(
            past,
            known,
            {name: promise_of(past, name, known, slo[name]) for name in LATENCIES[role]},
            _target(wishes, role, gpu_type(history, wishes, role)),
        )
        for role, past in history.roles.items()
    }


def gpu_type(history: History, wishes: Wishes, role: Role) -> str:
    """Return the GPU type of a role: as asked, as labels say, as the file says, or unknown."""
    if role in wishes.gpu_types:
        return wishes.gpu_types[role]
    if seen := history.roles[role].gpu_types:
        return seen[0]
    if wishes.spec is not None and wishes.spec.roles[role].gpu_types:
        return wishes.spec.roles[role].gpu_types[0]
    return UNKNOWN_GPU


def gpus_told(history: History, role: Role) -> int | None:
    """Return the GPUs that most instances of a role are told to have; None where nobody tells."""
    mine = [past.seen.gpus for past in history.instances if past.seen.role is role]
    told = sorted(count for count in mine if count)
    return max(told, key=told.count) if told else None


def gpus_of(history: History, wishes: Wishes, role: Role) -> int:
    """Return the GPUs of one instance: as asked, as the file says, as told, or 1."""
    if role in wishes.gpus:
        return wishes.gpus[role]
    if wishes.spec is None:
        return gpus_told(history, role) or 1
    asked = wishes.spec.roles[role]
    return asked.gpus * asked.ranks


def service_of(history: History, models: Mapping[Role, RoleModel], wishes: Wishes) -> ServiceSpec:
    """Return the service to be played: targets and GPU types as they were found, where not given."""
    types = {role: gpu_type(history, wishes, role) for role in history.roles}
    if wishes.spec is not None:
        roles = {
            role: asked.model_copy(
                update={
                    "gpu_types": (types[role],),
                    "target": models[role].target,
                    "template": asked.template or role.value,
                }
            )
            for role, asked in wishes.spec.roles.items()
        }
        # Whoever starts the engines there, here it is the policy itself.
        own = {"advisory": False, "actuation": ActuationSpec()}
        update = {"roles": roles, "slo": _slo(models), **own}
        return wishes.spec.model_copy(update=update)
    most = {role: float(np.nanmax(past.count)) for role, past in history.roles.items()}
    written = {
        "roles": {
            role.value: {
                "template": f"{plain_name(wishes.service)[:55]}-{role.value}",
                "gpuTypes": [types[role]],
                "gpus": gpus_of(history, wishes, role),
                "min": 1,
                "max": max(4, math.ceil(2 * most[role])),
                "target": _rounded(models[role].target),
            }
            for role in history.roles
        },
        **_band(history, models),
        "slo": _slo(models).document(),
        "policy": {"guard": {"startup": wishes.startup or 120.0}},
    }
    return ServiceSpec.model_validate(written)


def _band(history: History, models: Mapping[Role, RoleModel]) -> Mapping[str, object]:
    """Return `ratio` as the work asked for it in nine of ten slots; none where there is one role."""
    if Role.AGGREGATED in models:
        return {}
    wanted = wanted_ratio(history, models)
    low, high = quantile(wanted, 0.05), quantile(wanted, 0.95)
    return {"ratio": {"min": _outward(low or 1.0, -1), "max": _outward(high or low or 1.0, 1)}}


def as_watched(spec: ServiceSpec) -> ServiceSpec:
    """Return the service with signals as old as those of a Prometheus, but told by the plant's agents."""
    policy = spec.policy
    if "freshness" not in policy.model_fields_set:
        policy = policy.model_copy(update={"freshness": FRESHNESS})
    return spec.model_copy(update={"policy": policy, "signals": SourceSpec()})


def pace(spec: ServiceSpec, wishes: Wishes) -> float:
    """Return the seconds between two looks of the policy: 5 as live, 10 for a day, 15 for longer.

    Each costs as much as a live one, and of a longer time more of them tell little more.
    """
    asked = min(
        max(_FASTEST, wishes.since / _LOOKS), _SLOWEST, as_watched(spec).policy.freshness / 2
    )
    return float(max(1, int(asked)))


def fleet_of(spec: ServiceSpec, wishes: Wishes) -> FleetSpec:
    """Return nodes enough for the service's bounds, near each other: where is not the question here."""
    every = pace(spec, wishes)
    pools: dict[str, int] = {}
    node = _NODE
    for asked in spec.roles.values():
        per_rank = asked.gpus
        node = max(node, per_rank)
        ranks = asked.max * asked.ranks
        nodes = max(asked.ranks, math.ceil(ranks / max(1, _NODE // per_rank)))
        pools[asked.gpu_types[0]] = pools.get(asked.gpu_types[0], 0) + nodes + 1
    startup = wishes.startup or spec.policy.guard.startup
    return FleetSpec.model_validate(
        {
            "pools": [
                {
                    "name": f"pool-{number}",
                    "nodes": nodes,
                    "gpuType": kind,
                    "gpusPerNode": node,
                    "pricePerGpuHour": 1.0,
                    "topology": {"name": "seen", "nodesPerS1": sum(pools.values())},
                }
                for number, (kind, nodes) in enumerate(pools.items(), 1)
            ],
            "startup": {"median": startup},
            "rules": {"tick": every, "reportInterval": every, "silentAfter": 3 * every},
        }
    )


def _slo(models: Mapping[Role, RoleModel]) -> SloSpec:
    def seconds(promise: Promise) -> float | None:
        return None if not promise.seconds else float(f"{promise.seconds:.3g}")

    return SloSpec(
        **{name: seconds(one.promise) for name, (_, one) in latencies_of(models).items()}
    )


def _target(wishes: Wishes, role: Role, kind: str) -> float | None:
    """Return the target of the file; None: to be learned."""
    if wishes.spec is None or wishes.spec.roles[role].target == "learn":
        return None
    return wishes.spec.roles[role].target_of(kind)


def _outward(value: float, way: int) -> float:
    """Return a bound as a person would write it, never inside what was seen: 3 per 7 is not 0.429."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 2)
    steps = round(value / digit, 6)
    return float(f"{(math.floor(steps) if way < 0 else math.ceil(steps)) * digit:.3g}")


def _rounded(value: float) -> float:
    """Return three figures that count, as a person would write them."""
    return float(f"{value:.3g}")
