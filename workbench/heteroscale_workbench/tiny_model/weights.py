"""The model itself: its shape and its random weights, named as Hugging Face names them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import NamedTuple

from heteroscale_workbench.tiny_model.vocabulary import TOKENS


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's dimensions. Heads of 64 are the smallest that every engine's kernels take."""

    hidden: int = 256
    inner: int = 512
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    context: int = 4096
    vocabulary: int = len(TOKENS)

    @property
    def kv_width(self) -> int:
        """Width of a layer's keys, and of its values."""
        return self.hidden // self.heads * self.kv_heads


class Tensor(NamedTuple):
    """Little-endian 32-bit floats, row by row."""

    shape: tuple[int, ...]
    values: array[float]


def draw(shape: Shape, seed: int) -> Mapping[str, Tensor]:
    """Return every tensor of the model; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable model, no secret
    return {name: _one(name, size, rng) for name, size in _sizes(shape).items()}


def _sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    square, wide = (shape.hidden, shape.hidden), (shape.inner, shape.hidden)
    narrow = (shape.kv_width, shape.hidden)
    table = (shape.vocabulary, shape.hidden)
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": table}
    for layer in range(shape.layers):
        parts = {
            "self_attn.q_proj": square,
            "self_attn.k_proj": narrow,
            "self_attn.v_proj": narrow,
            "self_attn.o_proj": square,
            "mlp.gate_proj": wide,
            "mlp.up_proj": wide,
            "mlp.down_proj": (shape.hidden, shape.inner),
            "input_layernorm": (shape.hidden,),
            "post_attention_layernorm": (shape.hidden,),
        }
        found |= {f"model.layers.{layer}.{name}.weight": size for name, size in parts.items()}
    return found | {"model.norm.weight": (shape.hidden,), "lm_head.weight": table}


def _one(name: str, size: tuple[int, ...], rng: random.Random) -> Tensor:
    if len(size) == 1:
        return Tensor(size, array("f", [1.0]) * size[0])
    # Wider than a trained model's start: what was read must weigh as much as the last token.
    spread = 1.0 if "embed" in name else 1.5 / sqrt(size[1])
    bound = spread * sqrt(3)
    return Tensor(size, array("f", (rng.uniform(-bound, bound) for _ in range(prod(size)))))
