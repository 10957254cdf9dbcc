"""What a Prometheus answers, read strictly: what is missing, NaN, infinite or negative is unknown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]
_REMARK = "PromQL info:"
"""How remarks on a query's wording begin. Prometheus 2.48 to 2.54 put them among the warnings; nothing is
missing then."""


class PrometheusError(RuntimeError):
    """No usable answer; the message says why, and what to do."""

    def __init__(self, text: str, *, status: int = 0, retry_after: float = 0.0) -> None:
        """``status``: HTTP's, if there was one; ``retry_after``: seconds to be left alone."""
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Vector:
    """Values at one moment. ``warnings``: it may not be all; then nothing of it is to be used."""

    rows: tuple[tuple[Labels, float], ...]
    """Labels and value; only known ones."""
    at: float | None
    """That moment in seconds since 1970, by the server's clock; None: nothing was answered."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series with their points. ``warnings``: it may not be all; then nothing of it is to be used."""

    series: tuple[tuple[Labels, tuple[tuple[float, float], ...]], ...]
    """Labels, and (seconds since 1970, value); only known values, in the order of time."""
    warnings: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether the server says that something may be missing."""
        return bool(self.warnings)


def read(text: bytes) -> tuple[Any, tuple[str, ...]]:
    """Return the data and the warnings of an answer.

    Raises:
        PrometheusError: it is none, or says what went wrong.

    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise PrometheusError(
            f"the answer is no JSON ({_start(text)}): is the address that of a Prometheus API?"
        ) from None
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        raise PrometheusError("the answer is JSON, but not Prometheus's: check the address")
    if answer["status"] == "error":
        raise PrometheusError(f"refused: {str(answer.get('error', 'no reason given'))[:500]}")
    told = answer.get("warnings") or []
    said = [str(one)[:500] for one in told] if isinstance(told, list) else [str(told)]
    warnings = tuple(one for one in said if not one.startswith(_REMARK))
    if answer.get("isPartial") is True:  # VictoriaMetrics' word for it
        warnings = (*warnings, "the answer is partial")
    return answer.get("data"), warnings


def matrix(text: bytes) -> Matrix:
    """Return the answer to a range query. PrometheusError as ``read``."""
    data, warnings = read(text)
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        raise PrometheusError("the answer to a range query is no matrix: check the query")
    rows = data.get("result")
    if not isinstance(rows, list):
        raise PrometheusError("the answer has no result")
    return Matrix(tuple(_row(one) for one in rows), warnings)


def vector(text: bytes) -> Vector:
    """Return the answer to a query at one moment. PrometheusError as ``read``."""
    data, warnings = read(text)
    if not isinstance(data, dict) or data.get("resultType") != "vector":
        raise PrometheusError("the answer to a query is no vector: check the query")
    found = data.get("result")
    if not isinstance(found, list):
        raise PrometheusError("the answer has no result")
    rows, at = [], None
    for row in found:
        if not isinstance(row, dict):
            raise PrometheusError("a row of the answer is none")
        labels, point = _labels(row.get("metric")), row.get("value")
        at = _moment(point)
        if (known := _point(point)) is not None:
            rows.append((labels, known[1]))
    return Vector(tuple(rows), at, warnings)


def _moment(point: Any) -> float:
    try:
        at = float(point[0])
    except (TypeError, ValueError, IndexError, KeyError):
        at = math.nan
    if not math.isfinite(at):
        raise PrometheusError(f"a value of the answer has no time: {str(point)[:80]}")
    return at


def label_sets(text: bytes) -> tuple[tuple[Labels, ...], tuple[str, ...]]:
    """Return the label sets of an answer about series, and warnings. PrometheusError as ``read``."""
    data, warnings = read(text)
    if not isinstance(data, list):
        raise PrometheusError("the answer about series is no list")
    return tuple(_labels(one) for one in data), warnings


def _row(row: Any) -> tuple[Labels, tuple[tuple[float, float], ...]]:
    if not isinstance(row, dict) or not isinstance(row.get("values"), list):
        raise PrometheusError("a series of the answer has no values")
    points = (_point(one) for one in row["values"])
    return _labels(row.get("metric")), tuple(point for point in points if point is not None)


def _point(point: Any) -> tuple[float, float] | None:
    try:
        at, value = float(point[0]), float(point[1])
    except (TypeError, ValueError, IndexError, KeyError):
        raise PrometheusError(f"a point of the answer is none: {str(point)[:80]}") from None
    return (at, value) if math.isfinite(at) and 0 <= value < math.inf else None


def _labels(labels: Any) -> Labels:
    if not isinstance(labels, dict):
        raise PrometheusError("a series of the answer has no labels")
    return {str(name): str(value) for name, value in labels.items()}


def _start(text: bytes) -> str:
    begun = " ".join(text[:60].decode("utf-8", "replace").split())
    return f"it begins {begun!r}" if begun else "it is empty"
