"""The measured engines that come with the simulator; data/README.md says whose measurements."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from heteroscale_simulator.profiles.csvs import Row, number, shipped, whole
from heteroscale_simulator.profiles.measurements import Measurements
from heteroscale_simulator.profiles.tables import Selection


@cache
def measured_engines() -> Mapping[tuple[str, Selection], Measurements]:
    """Return what was measured, by (short GPU name, model with weights and TP)."""
    decode: dict[tuple[str, Selection], dict[tuple[float, float], float]] = {}
    for row in shipped("measured_decode.csv"):
        at = {(number(row, "batch"), context): ms for context, ms in _numbered(row).items()}
        decode.setdefault(_engine(row), {}).update(at)
    return {
        _engine(row): Measurements(
            origin=f"shipped: {row['gpu']}, {_engine(row)[1]}",
            kv_capacity_tokens=whole(row, "kv_capacity_tokens"),
            prefill=_numbered(row),
            decode=decode[_engine(row)],
        )
        for row in shipped("measured_prefill.csv")
    }


def _engine(row: Row) -> tuple[str, Selection]:
    return row["gpu"], Selection(row["model"], row["weights"], whole(row, "tp"))


def _numbered(row: Row) -> dict[float, float]:
    # Columns headed by a number hold the times at that many tokens; empty where KV does not fit.
    return {float(name): number(row, name) for name in row if name.isdigit() and row[name]}
