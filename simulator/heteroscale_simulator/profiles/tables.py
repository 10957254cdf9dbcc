"""Reads profiles from three CSV tables: prefill, decode and summary, by GPU, model and TP size.

Columns used: ``gpu,model,weights_dtype,tp`` in all three; ``isl,prefill_ms`` · ``batch,context,
step_ms`` · ``kv_capacity_tokens``. A decode table has holes where batch × context exceeds the KV
capacity; they are filled by carrying on the line of the cells before, so that interpolation near the
edge has its four corners.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from heteroscale_simulator.profiles.grid import linear
from heteroscale_simulator.profiles.model import (
    DecodeTable,
    EngineProfile,
    GpuProfile,
    LinkProfile,
    PrefillTable,
    TransferProfile,
)

Row = Mapping[str, str]
KV_BYTES_PER_TOKEN = {"Llama-3.1-8B": 128 * 1024, "Llama-3.1-70B": 320 * 1024}
"""At two bytes a value: 2 (K and V) × layers × KV heads × head size × 2."""
DEFAULT_TRANSFER = TransferProfile(
    s0=LinkProfile(gigabytes_per_second=200, latency_ms=0.05),
    s1=LinkProfile(gigabytes_per_second=45, latency_ms=0.1),
    s2=LinkProfile(gigabytes_per_second=36, latency_ms=0.2),
    cluster=LinkProfile(gigabytes_per_second=12, latency_ms=0.5),
)
"""NVLink inside a node; a 400 Gb/s port inside S1; a fifth less across S1; 100 Gb/s beyond."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of the tables make the profile."""

    model: str
    weights_dtype: str = "bfloat16"
    tensor_parallel: int = 1

    def matches(self, row: Row) -> bool:
        """Whether ``row`` belongs to the selection."""
        return (
            row["model"] == self.model
            and row["weights_dtype"] == self.weights_dtype
            and int(row["tp"]) == self.tensor_parallel
        )


def read_tables(
    folder: Path,
    selection: Selection,
    *,
    kv_bytes_per_token: int | None = None,
    transfer: TransferProfile = DEFAULT_TRANSFER,
    startup: float = 60.0,
) -> EngineProfile:
    """Read ``profile_{prefill,decode,summary}_by_gpu.csv`` in ``folder``.

    Args:
        folder: where the three files are.
        selection: model, weights and TP size to read.
        kv_bytes_per_token: None takes the known value of the model, else 128 KiB.
        transfer: KV transfer by distance; the tables say nothing of it.
        startup: seconds an engine takes to start; the tables say nothing of it.

    Raises:
        ValueError: a file, a column or a number is wrong, or nothing matches the selection.

    """
    capacity = {r["gpu"]: r for r in _rows(folder, "summary", selection)}
    prefill = _by_gpu(_rows(folder, "prefill", selection))
    decode = _by_gpu(_rows(folder, "decode", selection))
    names = [name for name in capacity if name in prefill and name in decode]
    if not names:
        raise ValueError(f"{folder}: no GPU has all three tables for {selection}")
    kv_bytes = kv_bytes_per_token or KV_BYTES_PER_TOKEN.get(selection.model, 128 * 1024)
    gpus = {
        name: GpuProfile(
            kv_capacity_tokens=int(capacity[name]["kv_capacity_tokens"]),
            startup=startup,
            prefill=_prefill(prefill[name]),
            decode=_decode(decode[name]),
        )
        for name in names
    }
    return EngineProfile(
        model=selection.model, kv_bytes_per_token=kv_bytes, transfer=transfer, gpus=gpus
    )


def _rows(folder: Path, table: str, selection: Selection) -> list[Row]:
    path = folder / f"profile_{table}_by_gpu.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if selection.matches(row)]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: column or value missing or wrong: {error}") from error


def _by_gpu(rows: Iterable[Row]) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {}
    for row in rows:
        result.setdefault(row["gpu"], []).append(row)
    return result


def _prefill(rows: list[Row]) -> PrefillTable:
    points = sorted((float(row["isl"]), float(row["prefill_ms"])) for row in rows)
    return PrefillTable(lengths=tuple(x for x, _ in points), ms=tuple(y for _, y in points))


def _decode(rows: list[Row]) -> DecodeTable:
    cells = {(float(r["batch"]), float(r["context"])): float(r["step_ms"]) for r in rows}
    batches = sorted({batch for batch, _ in cells})
    contexts = sorted({context for _, context in cells})
    table: list[tuple[float, ...]] = []
    for batch in batches:
        known = [context for context in contexts if (batch, context) in cells]
        values = [cells[batch, context] for context in known]
        table.append(
            tuple(
                _fill(known, values, c, table[-1][i] if table else 0.0)
                for i, c in enumerate(contexts)
            )
        )
    return DecodeTable(batches=tuple(batches), contexts=tuple(contexts), step_ms=tuple(table))


def _fill(known: list[float], values: list[float], context: float, smaller_batch: float) -> float:
    # A larger batch is never faster: a hole is at least what the batch below it takes.
    estimate = linear(known, values, context)
    return estimate if context in known else max(estimate, smaller_batch)
