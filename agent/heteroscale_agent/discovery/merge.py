"""Many sightings, one engine: who serves at one address, or for one owner at one port, is one.

Sightings come in the order of their weight: pods know what their owner meant, jobs too, processes know
what is really there. The first that tells something is believed; what it leaves open others add.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from heteroscale_agent.discovery.sighting import USUAL_PORT, Sighting

HERE = "here"
Place = tuple[str, int]


def place(host: str, port: int | None, here: Collection[str]) -> Place | None:
    """Return where something serves, with one name for all addresses of this host."""
    if port is None:
        return None
    return (HERE if not host or host.strip("[]") in here else host, port)


def served(endpoint: str, here: Collection[str]) -> Place | None:
    """Return where `http://host:port` serves; None when it names no port."""
    host, _, port = endpoint.rstrip("/").partition("://")[2].rpartition(":")
    return place(host, int(port), here) if port.isdecimal() else None


def merge(seen: Sequence[Sighting], here: Collection[str]) -> list[Sighting]:
    """Return one sighting for each engine, in the order in which they were first seen."""
    placed = _with_ports(seen)
    groups: list[list[Sighting]] = []
    by_key: dict[tuple[str, int], list[Sighting]] = {}
    for one in placed:
        keys = [(one.owner, one.port or 0)]
        if (at := place(one.host, one.port, here)) is not None:
            keys.append(at)
        group = next((by_key[key] for key in keys if key in by_key), None)
        if group is None:
            group = []
            groups.append(group)
        group.append(one)
        for key in keys:
            by_key.setdefault(key, group)
    return [_one(group) for group in groups]


def _with_ports(seen: Sequence[Sighting]) -> list[Sighting]:
    """Give a port to those that name none: that of what their owner runs, else the engine's usual."""
    known: dict[str, list[int]] = defaultdict(list)
    for one in seen:
        if one.port is not None and one.port not in known[one.owner]:
            known[one.owner].append(one.port)
    placed: list[Sighting] = []
    for one in seen:
        if one.port is not None:
            placed.append(one)
        else:
            usual = USUAL_PORT.get(one.engine, USUAL_PORT["vllm"])
            placed += [replace(one, port=port) for port in known[one.owner] or [usual]]
    return placed


def _one(group: Sequence[Sighting]) -> Sighting:
    first = group[0]
    return replace(
        first,
        host=next((one.host for one in group if one.host), ""),
        service=next((one.service for one in group if one.service), ""),
        role=next((one.role for one in group if one.role is not None), None),
        engine=next((one.engine for one in group if one.engine), ""),
        model=next((one.model for one in group if one.model), ""),
        metrics_path=next((one.metrics_path for one in group if one.metrics_path), ""),
        gpus=next((one.gpus for one in group if one.gpus is not None), None),
        pid=next((one.pid for one in group if one.pid), 0),
        ready=next((one.ready for one in group if one.ready is not None), None),
        leaving=any(one.leaving for one in group),
        told_as=next((one.told_as for one in group if one.told_as), ""),
    )
