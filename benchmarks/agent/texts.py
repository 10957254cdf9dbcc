"""Engines' metrics as large as real ones, with counters that move.

The families that agents read are recorded ones (`tests/agent/fixtures`). A whole answer has many
more, which an agent must step over: they are made here, in the engines' own manner, until the text
is as long as the whole recorded answer was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "agent" / "fixtures"
_SAMPLE = re.compile(r"^([^#\s]\S*(?:\s*\{.*\})?)\s+(\S+)$")
_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, "+Inf")
_FASTER_PER_S = 0.01
"""Every counter gains a hundredth of its recorded value a second."""


@dataclass(frozen=True, slots=True)
class EngineText:
    """One engine's answer: recorded families, filled up to the size of a whole answer."""

    engine: str
    fixture: str
    size: int
    """Bytes of the whole answer when it was recorded."""

    def lines(self) -> list[tuple[str, float | None]]:
        """Return its lines; those of counters as what stands before the value, and the value."""
        recorded = (FIXTURES / self.fixture).read_text(encoding="utf-8")
        missing = self.size - len(recorded)
        filling: list[str] = []
        for family in self._filling():
            if missing <= 0:
                break
            filling += family
            missing -= sum(len(line) + 1 for line in family)
        return _split([*recorded.splitlines(), *filling])

    def _filling(self) -> Iterator[list[str]]:
        for number in count():
            name = f"{self.engine}:other_family_{number}"
            labels = 'engine="0",model_name="tiny"'
            buckets = (
                f'{name}_bucket{{{labels},le="{bound}"}} {1000.0 + place}'
                for place, bound in enumerate(_BOUNDS)
            )
            yield [
                f"# HELP {name} Histogram of something that scaling has no use for.",
                f"# TYPE {name} histogram",
                *buckets,
                f"{name}_count{{{labels}}} 1015.0",
                f"{name}_sum{{{labels}}} 123456.7",
            ]


ENGINES = (
    EngineText("vllm", "vllm-0.32-pd-prefill.txt", 59_627),
    EngineText("vllm", "vllm-0.32-pd-decode.txt", 60_339),
    EngineText("sglang", "sglang-0.5.23-loaded.txt", 85_423),
    EngineText("sglang", "sglang-0.5.23-loaded.txt", 85_423),
)


def _split(lines: list[str]) -> list[tuple[str, float | None]]:
    """Tell counters from the rest: by their family's type, as the text declares it."""
    found: list[tuple[str, float | None]] = []
    moves = False
    for line in lines:
        if line.startswith("# TYPE "):
            moves = line.split()[-1] in {"counter", "histogram", "summary"}
        sample = _SAMPLE.match(line)
        if sample is None or not moves:
            found.append((line, None))
        else:
            found.append((sample[1], float(sample[2])))
    return found


def render(lines: list[tuple[str, float | None]], elapsed: float) -> bytes:
    """Return the text as it is ``elapsed`` seconds after the recording."""
    factor = 1 + _FASTER_PER_S * elapsed
    out = [head if value is None else f"{head} {_moved(value, factor)!r}" for head, value in lines]
    return ("\n".join(out) + "\n").encode()


def _moved(value: float, factor: float) -> float:
    # Whole counts stay whole, so that buckets and their sum still agree.
    return float(round(value * factor)) if value.is_integer() else value * factor
