"""Reads profiles from three CSV tables: prefill, decode and summary, by GPU, model and TP size.

Columns used: ``gpu,model,weights_dtype,tp`` in all three; ``isl,prefill_ms`` · ``batch,context,
step_ms`` · ``kv_capacity_tokens``; others are passed over. All numbers are above 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heteroscale_simulator.profiles.csvs import Row, number, rows_of, whole
from heteroscale_simulator.profiles.measurements import Measurements
from heteroscale_simulator.profiles.model import EngineProfile, TransferProfile
from heteroscale_simulator.profiles.shapes import shapes
from heteroscale_simulator.profiles.transfer import DEFAULT_TRANSFER

TABLES = ("summary", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of the tables make the profile."""

    model: str
    weights_dtype: str = "bfloat16"
    tensor_parallel: int = 1

    def __str__(self) -> str:
        """Name the engine as errors do."""
        return f"{self.model} {self.weights_dtype} tp {self.tensor_parallel}"

    def matches(self, row: Row) -> bool:
        """Whether ``row`` belongs to the selection."""
        return (
            row["model"] == self.model
            and row["weights_dtype"] == self.weights_dtype
            and whole(row, "tp") == self.tensor_parallel
        )


def table_path(folder: Path, table: str) -> Path:
    """Return the file of a table: one of ``TABLES``."""
    return folder / f"profile_{table}_by_gpu.csv"


def has_tables(folder: Path) -> bool:
    """Whether any of the three tables is there."""
    return any(table_path(folder, table).is_file() for table in TABLES)


def read_tables(
    folder: Path,
    selection: Selection,
    *,
    kv_bytes_per_token: int | None = None,
    transfer: TransferProfile = DEFAULT_TRANSFER,
    startup: float = 60.0,
) -> EngineProfile:
    """Read ``profile_{prefill,decode,summary}_by_gpu.csv`` in ``folder``, all GPU types of them.

    Beyond the tables' edge the last line goes on; ``speeds_for`` is the strict reader.

    Args:
        folder: where the three files are.
        selection: model, weights and TP size to read.
        kv_bytes_per_token: None takes the known value of the model, else 128 KiB.
        transfer: KV transfer by distance; the tables say nothing of it.
        startup: seconds an engine takes to start; the tables say nothing of it.

    Raises:
        ValueError: a file, a column or a number is wrong, or nothing matches the selection.

    """
    found = read_measurements(folder, selection, startup=startup)
    if not found:
        raise ValueError(f"{folder}: no GPU has all three tables for {selection}")
    shape = shapes(folder).get(selection.model)
    kv_bytes = kv_bytes_per_token or (shape.kv_bytes_per_token if shape else 128 * 1024)
    gpus = {name: measured.profile() for name, measured in found.items()}
    return EngineProfile(
        model=selection.model, kv_bytes_per_token=kv_bytes, transfer=transfer, gpus=gpus
    )


def read_measurements(
    folder: Path, selection: Selection, *, startup: float = 60.0
) -> dict[str, Measurements]:
    """Return what was measured of ``selection``, by the tables' GPU names; empty if nothing was.

    Raises:
        ValueError: a file, a column or a number is wrong, or a cell is there twice.

    """
    summary, prefill, decode = (_by_gpu(folder, name, selection) for name in TABLES)
    return {
        gpu: Measurements(
            origin=f"{folder}/profile_*_by_gpu.csv: {gpu}, {selection}",
            kv_capacity_tokens=_capacity(rows),
            prefill=_points(prefill[gpu]),
            decode=_cells(decode[gpu]),
            startup=startup,
        )
        for gpu, rows in summary.items()
        if gpu in prefill and gpu in decode
    }


def engines_in(folder: Path) -> dict[str, list[str]]:
    """Return the engines in the summary table, in words with their TP sizes, by GPU name."""
    sizes: dict[str, dict[str, list[int]]] = {}
    for row in rows_of(table_path(folder, "summary")):
        engine = f"{row['model']} {row['weights_dtype']}"
        sizes.setdefault(row["gpu"], {}).setdefault(engine, []).append(whole(row, "tp"))
    return {
        gpu: [f"{engine} tp {'/'.join(map(str, tps))}" for engine, tps in engines.items()]
        for gpu, engines in sizes.items()
    }


def _by_gpu(folder: Path, table: str, selection: Selection) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {}
    for row in filter(selection.matches, rows_of(table_path(folder, table))):
        result.setdefault(row["gpu"], []).append(row)
    return result


def _capacity(rows: Sequence[Row]) -> int:
    if len(rows) > 1:
        raise ValueError(f"{rows[1].place}: the engine of {rows[0].place} once more")
    return whole(rows[0], "kv_capacity_tokens")


def _points(rows: Iterable[Row]) -> dict[float, float]:
    points: dict[float, float] = {}
    for row in rows:
        length = number(row, "isl")
        if length in points:
            raise ValueError(f"{row.place}: isl {length:g} is there twice")
        points[length] = number(row, "prefill_ms")
    return points


def _cells(rows: Iterable[Row]) -> dict[tuple[float, float], float]:
    cells: dict[tuple[float, float], float] = {}
    for row in rows:
        at = (number(row, "batch"), number(row, "context"))
        if at in cells:
            raise ValueError(f"{row.place}: batch {at[0]:g} at context {at[1]:g} is there twice")
        cells[at] = number(row, "step_ms")
    return cells
