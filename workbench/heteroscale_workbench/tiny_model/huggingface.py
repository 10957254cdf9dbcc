"""The model as a folder that vLLM, SGLang and transformers load: safetensors and JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
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

_ALIGN = 8


def write(folder: Path, shape: Shape, tensors: Mapping[str, Tensor]) -> None:
    """Write weights, configuration and tokenizer."""
    _json(folder / "config.json", _config(shape))
    _json(folder / "generation_config.json", {"bos_token_id": BEGIN, "eos_token_id": END})
    _json(folder / "tokenizer.json", _tokenizer())
    _json(folder / "tokenizer_config.json", _tokenizer_config(shape))
    _safetensors(folder / "model.safetensors", tensors)


def _safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + len(tensor.values) * tensor.values.itemsize
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGN)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            tensor.values.tofile(file)


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }


def _tokenizer() -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": mark, "special": True, **flags}
            for number, mark in enumerate(SPECIAL)
        ],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "unk_token": SPECIAL[UNKNOWN],
            "vocab": {token: number for number, token in enumerate(TOKENS)},
            "merges": [f"{left} {right}" for left, right in MERGES],
        },
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": SPECIAL[UNKNOWN],
        "bos_token": SPECIAL[BEGIN],
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[PAD],
        "model_max_length": shape.context,
        "chat_template": CHAT_TEMPLATE,
    }


def _json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
