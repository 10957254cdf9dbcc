"""The tiny model's files are what their formats say; that engines load them is `make e2e-…`'s word."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from heteroscale_workbench.tiny_model import Shape, write
from heteroscale_workbench.tiny_model.__main__ import main
from heteroscale_workbench.tiny_model.vocabulary import BLANK, MERGES, TOKENS

SHAPE = Shape(hidden=64, inner=64, layers=1, heads=1, kv_heads=1)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path, SHAPE)


def test_safetensors_say_where_each_tensor_stands(files: tuple[Path, Path]) -> None:
    data = (files[0] / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    at = 0
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        rows, *columns = tensor["shape"]
        assert begin == at, name
        assert end - begin == 4 * rows * (columns[0] if columns else 1), name
        at = end
    assert len(data) == 8 + length + at
    assert header["lm_head.weight"]["shape"] == [len(TOKENS), SHAPE.hidden]


def test_gguf_holds_the_same_weights(files: tuple[Path, Path]) -> None:
    safe = (files[0] / "model.safetensors").read_bytes()
    data = files[1].read_bytes()
    magic, version, tensors, facts = struct.unpack_from("<4sIQQ", data)
    assert (magic, version) == (b"GGUF", 3)
    assert tensors == 3 + 9 * SHAPE.layers
    assert facts > 15
    assert all(name in data for name in (b"token_embd.weight", b"blk.0.ffn_down.weight"))
    last = 4 * len(TOKENS) * SHAPE.hidden
    assert data[-last:] == safe[-last:]


def test_the_tokenizer_takes_a_loads_words_as_one_token_each(files: tuple[Path, Path]) -> None:
    model = json.loads((files[0] / "tokenizer.json").read_text("utf-8"))["model"]
    assert list(model["vocab"].values()) == list(range(len(TOKENS)))
    assert {"the", "end", BLANK + "the", BLANK + "end"} <= set(model["vocab"])
    assert len(set(TOKENS)) == len(TOKENS) == 256 + 4 + len(MERGES)


def test_a_seed_is_a_model(tmp_path: Path) -> None:
    texts = {
        name: write(tmp_path / name, SHAPE, seed)[1].read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert texts["a"] == texts["b"] != texts["c"]


def test_the_command_says_where_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "huggingface") in said
    assert str(tmp_path / "tiny.gguf") in said
