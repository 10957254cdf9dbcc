"""The figures of a run from its exported tables alone, as their README.txt says."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

Row = Mapping[str, str]
ROLES = ("prefill", "decode")


def rows(folder: Path, table: str, policy: str, column: str = "policy") -> list[Row]:
    """Return the rows of one policy, or of one value of another column."""
    with (folder / table).open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row[column] == policy]


def figures(folder: Path, policy: str) -> dict[str, float | None]:
    """Return what can be recomputed of a run's figures, by their names."""
    cohorts = rows(folder, "cohorts.csv", policy)
    stays = rows(folder, "intervals.csv", policy)
    hours = _hours(stays)
    total = {name: sum(float(r[name]) for r in cohorts) for name in ("arrived", "failed", *MET)}
    arrived = total["arrived"]
    result: dict[str, float | None] = {
        "gpu_hours": sum(hours),
        "cost": sum(h * float(r["price"]) for h, r in zip(hours, stays, strict=True)),
        "requests": arrived,
        "requests_failed": total["failed"],
    }
    for limit in ("static-peak", "oracle-free", "oracle-fixed"):
        held = _hours(rows(folder, "limits.csv", limit, "limit"))
        result[f"gpu_hours_{limit.replace('-', '_')}"] = sum(held)
    for column, name in MET.items():
        result[name] = total[column] / arrived if arrived else None
    counts = rows(folder, "counts.csv", policy)
    for role in ROLES:
        result[f"gpu_util_{role}"] = _mean(counts, f"{role}_gpu_util", f"{role}_gpu_seconds")
        result[f"sm_{role}"] = _mean(counts, f"{role}_sm_activity", f"{role}_gpu_seconds")
    moves = rows(folder, "decisions.csv", policy)
    result["scale_events"] = sum(bool(changes(row)) for row in moves)
    result["reversals"] = _reversals(moves)
    return result


def _hours(stays: list[Row]) -> list[float]:
    return [float(r["gpus"]) * (float(r["end"]) - float(r["begin"])) / 3600 for r in stays]


MET = {"ttft_met": "ttft_attainment", "tbt_met": "tbt_attainment", "met": "joint_attainment"}


def changes(row: Row) -> dict[str, int]:
    """Return by role how a decision changes its count; roles that it leaves alone are left out."""
    return {role: change for role in ROLES if (change := int(row[f"{role}_delta"]))}


def _reversals(moves: list[Row]) -> int:
    """Count for one service: decisions of several ones are not told apart here."""
    found, last = 0, dict[str, tuple[float, int]]()
    for row in moves:
        at, turned = float(row["second"]), False
        for role, change in changes(row).items():
            before, sign = last.get(role, (-math.inf, change))
            turned |= sign * change < 0 and at - before <= 600
            last[role] = (at, change)
        found += turned
    return found


def ratio_errors(folder: Path, policy: str) -> Iterator[tuple[float, float]]:
    """Yield (seconds, |ln of ratio ÷ oracle's|) of each minute with both roles in service."""
    for row in rows(folder, "counts.csv", policy):
        p, d = (float(row[f"{role}_in_service"]) for role in ROLES)
        op, od = (float(row[f"oracle_{role}"]) for role in ROLES)
        if min(p, d, op, od) > 0:
            yield float(row["end"]) - float(row["begin"]), abs(math.log((p / d) / (op / od)))


def _mean(counts: list[Row], value: str, weight: str) -> float | None:
    pairs = [(float(r[value]), float(r[weight])) for r in counts if r[value]]
    total = sum(w for _, w in pairs)
    return sum(v * w for v, w in pairs) / total if total else None
