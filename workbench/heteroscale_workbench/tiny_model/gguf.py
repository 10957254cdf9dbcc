"""The model as one file for llama.cpp: GGUF version 3 (ggml/docs/gguf.md)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heteroscale_workbench.tiny_model.vocabulary import (
    BEGIN,
    CHAT_TEMPLATE,
    END,
    MERGES,
    PAD,
    SPECIAL,
    TOKENS,
    UNKNOWN,
)
from heteroscale_workbench.tiny_model.weights import Shape, Tensor

_ALIGN = 32
_VERSION = 3
_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_TENSOR_F32 = 0
_NORMAL, _CONTROL = 1, 3
"""Kinds of token."""
_RENAMED = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}


def write(path: Path, shape: Shape, tensors: Mapping[str, Tensor]) -> None:
    """Write the whole file."""
    facts = _facts(shape)
    head = struct.pack("<4sIQQ", b"GGUF", _VERSION, len(tensors), len(facts))
    head += b"".join(_string(name) + value for name, value in facts.items())
    at = 0
    for name, tensor in tensors.items():
        # Dimensions stand innermost first.
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape[::-1])
        head += _string(_renamed(name)) + dimensions + struct.pack("<IQ", _TENSOR_F32, at)
        at += _padded(_size(tensor))
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % _ALIGN))
        for tensor in tensors.values():
            tensor.values.tofile(file)
            file.write(bytes(_padded(_size(tensor)) - _size(tensor)))


def _facts(shape: Shape) -> dict[str, bytes]:
    kinds = [_CONTROL if place < len(SPECIAL) else _NORMAL for place in range(len(TOKENS))]
    return {
        "general.architecture": _text("llama"),
        "general.name": _text("tiny"),
        "general.file_type": _number(0),
        "llama.context_length": _number(shape.context),
        "llama.embedding_length": _number(shape.hidden),
        "llama.block_count": _number(shape.layers),
        "llama.feed_forward_length": _number(shape.inner),
        "llama.attention.head_count": _number(shape.heads),
        "llama.attention.head_count_kv": _number(shape.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": struct.pack("<If", _F32, 1e-6),
        "llama.rope.dimension_count": _number(shape.hidden // shape.heads),
        "llama.vocab_size": _number(shape.vocabulary),
        "tokenizer.ggml.model": _text("gpt2"),
        "tokenizer.ggml.pre": _text("gpt-2"),
        "tokenizer.ggml.tokens": _array(_STRING, [_string(token) for token in TOKENS]),
        "tokenizer.ggml.token_type": _array(_I32, [struct.pack("<i", kind) for kind in kinds]),
        "tokenizer.ggml.merges": _array(_STRING, [_string(" ".join(pair)) for pair in MERGES]),
        "tokenizer.ggml.unknown_token_id": _number(UNKNOWN),
        "tokenizer.ggml.bos_token_id": _number(BEGIN),
        "tokenizer.ggml.eos_token_id": _number(END),
        "tokenizer.ggml.padding_token_id": _number(PAD),
        "tokenizer.chat_template": _text(CHAT_TEMPLATE),
    }


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def _size(tensor: Tensor) -> int:
    return len(tensor.values) * tensor.values.itemsize


def _padded(size: int) -> int:
    return size + -size % _ALIGN


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _text(text: str) -> bytes:
    return struct.pack("<I", _STRING) + _string(text)


def _number(value: int) -> bytes:
    return struct.pack("<II", _U32, value)


def _array(kind: int, items: Sequence[Any]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)
