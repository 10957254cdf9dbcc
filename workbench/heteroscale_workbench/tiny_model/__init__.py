"""A tiny random Llama for real engines: the same weights for vLLM (a folder) and llama.cpp (GGUF).

Its text is noise, but it is *its* noise: greedy output depends on every token of the prompt, so a
decode that was handed wrong KV says something else. Written with the standard library alone, in a
second, because nothing may be downloaded where it is needed.
"""

from __future__ import annotations

from pathlib import Path

from heteroscale_workbench.tiny_model import gguf, huggingface
from heteroscale_workbench.tiny_model.weights import Shape, draw

__all__ = ["Shape", "write"]

HUGGING_FACE = "huggingface"
GGUF = "tiny.gguf"


def write(folder: Path, shape: Shape | None = None, seed: int = 0) -> tuple[Path, Path]:
    """Write both forms below ``folder`` and return (folder for vLLM, file for llama.cpp)."""
    shape = shape or Shape()
    tensors = draw(shape, seed)
    directory, file = folder / HUGGING_FACE, folder / GGUF
    directory.mkdir(parents=True, exist_ok=True)
    huggingface.write(directory, shape, tensors)
    gguf.write(file, shape, tensors)
    return directory, file
