"""What a simulated engine is told at its start, and the network place it stands at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from heteroscale_simulator.profiles import DISTANCES, Distance, EngineProfile, GpuProfile


class Mode(StrEnum):
    """Which half of the work the engine does."""

    PREFILL = "prefill"
    DECODE = "decode"
    AGGREGATED = "aggregated"


class Flavour(StrEnum):
    """Whose metric names it speaks."""

    VLLM = "vllm"
    SGLANG = "sglang"


@dataclass(frozen=True, slots=True)
class Settings:
    """One engine. Durations in the profile are divided by ``speed``; those here are not."""

    mode: Mode
    flavour: Flavour
    profile: EngineProfile
    gpu: str
    host: str = "127.0.0.1"
    port: int = 30000
    bootstrap_port: int = 8998
    """Where a prefill hands out its KV."""
    speed: float = 1.0
    startup: float = 0.0
    """Seconds until the port opens, as they pass on the wall clock."""
    shutdown_timeout: float = 0.0
    """Seconds that SIGTERM waits for requests in flight; 0 cuts them at once."""
    kv_lease: float = 300.0
    """Seconds a prefill waits for its decode, and keeps KV that nobody fetches."""
    cache_hit: float = 0.0
    """Share of every prompt found in the prefix cache, so neither computed nor counted as such."""
    model: str = "simulated"
    domain: Mapping[str, str] = field(default_factory=dict)
    gpu_state: Path | None = None
    seen_dir: Path | None = None
    allow_faults: bool = False
    role_switch: bool = False
    """A running engine may be asked to change between prefill and decode."""

    @property
    def gpu_profile(self) -> GpuProfile:
        """The profile of this engine's GPU type."""
        return self.profile.gpu(self.gpu)

    @property
    def engine_type(self) -> str:
        """The role as SGLang's ``engine_type`` label says it."""
        return "unified" if self.mode is Mode.AGGREGATED else self.mode.value


def parse_domain(text: str) -> dict[str, str]:
    """Return {level: name} from ``s0=node1,s1=minipod1,s2=bigpod1``; other levels are kept too.

    Raises:
        ValueError: a part is not ``level=name``.

    """
    result: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        level, equals, name = part.partition("=")
        if not (level.strip() and equals and name.strip()):
            raise ValueError(f"{part!r} is not level=name, e.g. s1=minipod1,s2=bigpod1")
        result[level.strip()] = name.strip()
    return result


def distance(one: Mapping[str, str], other: Mapping[str, str]) -> Distance:
    """Return the nearest level at which both stand in the same, named domain."""
    for level in DISTANCES[:-1]:
        if one.get(level) and one.get(level) == other.get(level):
            return level
    return "cluster"
