"""The shape of a dense decoder-only model: what its work and its memory follow from.

The table is ``data/models.csv``; a folder of one's own may hold a ``models.csv`` with the same
columns. Mixtures of experts are no dense models: what they compute per token is not described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from heteroscale_simulator.profiles.csvs import Row, named, number, whole

KV_BYTES = 2
"""Bytes of one value of K or V: kept at 16 bits whatever the weights are."""
WEIGHT_BYTES: Mapping[str, float] = {"bfloat16": 2.0, "float16": 2.0, "fp8": 1.0}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes as a published ``config.json`` gives them."""

    name: str
    parameters: float
    """All of them, embeddings and output layer (taken to be two tables) included."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @property
    def kv_bytes_per_token(self) -> int:
        """K and V of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_size * KV_BYTES

    @property
    def table(self) -> float:
        """Parameters of the embedding, and as many of the output layer."""
        return float(self.vocabulary * self.hidden)

    def weight_bytes(self, weights: str) -> float:
        """Return the bytes of all weights.

        Raises:
            ValueError: the type of ``weights`` is not known.

        """
        if weights not in WEIGHT_BYTES:
            known = ", ".join(WEIGHT_BYTES)
            raise ValueError(f"{self.name}, weights {weights!r}: an estimate knows {known}")
        return self.parameters * WEIGHT_BYTES[weights]


@cache
def shapes(folder: Path | None = None) -> Mapping[str, ModelShape]:
    """Return models by name: ``folder/models.csv``, where it is, over the shipped ones.

    Raises:
        ValueError: a column or a number is wrong; with file and line.

    """
    return named("models.csv", folder, _shape)


def _shape(row: Row) -> ModelShape:
    return ModelShape(
        name=row["model"],
        parameters=number(row, "parameters"),
        layers=whole(row, "layers"),
        hidden=whole(row, "hidden"),
        heads=whole(row, "heads"),
        kv_heads=whole(row, "kv_heads"),
        head_size=whole(row, "head_size"),
        vocabulary=whole(row, "vocabulary"),
    )
