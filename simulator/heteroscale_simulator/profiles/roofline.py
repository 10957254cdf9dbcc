"""Estimates the speed of a dense model on a GPU type that nobody measured: the roofline.

Work takes as long as its arithmetic or its reading of memory, whichever is longer (smoothly: the
third-power mean of both), plus attention, the all-reduces of tensor parallelism, and a fixed cost per
layer. The efficiencies are ours: one set for all GPUs, fitted to the measured tables shipped beside
it; ``python -m heteroscale_simulator.profiles.calibration`` shows how far it is off. docs/simulator.md
has the formula. Everything it returns says ``estimated``.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale_simulator.profiles.hardware import Hardware
from heteroscale_simulator.profiles.model import DecodeTable, GpuProfile, PrefillTable
from heteroscale_simulator.profiles.shapes import WEIGHT_BYTES, ModelShape

GIB = 2.0**30
LENGTHS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""Prompt lengths of an estimate, in tokens."""
CONTEXTS = (256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""Contexts of an estimate, in tokens."""
BATCHES = (1, 8, 16, 32, 64, 128, 256, 512)
NODE_GPUS = 8
"""Most GPUs that one link joins; beyond it tensor parallelism crosses nodes, which is no roofline."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The share of the peaks that engines reach, and their fixed costs."""

    mfu_hbm: float = 0.75
    """Of the peak arithmetic rate in matrix products, on cards with HBM."""
    mfu_gddr: float = 0.57
    """The same on cards with GDDR, whose power lets no clock stay at its peak."""
    fp8: float = 0.76
    """FP8's share of the share: quantising the inputs costs time too."""
    decode: float = 0.88
    """Decode's share of it: its matrices are thin."""
    attention: float = 0.55
    """Of the 16-bit peak, in the attention of a prefill."""
    mbu: float = 0.83
    """Of the peak memory rate."""
    nvlink: float = 0.29
    """Of the link's rate, in an all-reduce over a switched link."""
    pcie: float = 0.20
    """The same over PCIe, for two GPUs; more share it, each pair in turn."""
    layer: float = 76e-6
    """Seconds of a layer that shrink with nothing: launches, norms, the scheduler's share."""
    request: float = 0.03e-6
    """Seconds of a layer for each request of a decode step."""
    memory: float = 0.9
    """Share of the memory an engine uses."""
    reserve_gib: float = 2.793
    """GiB of it on each GPU for activations, graphs and the runtime."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """One model with ``weights`` on ``gpus`` GPUs of one type, joined by tensor parallelism.

    Raises:
        ValueError: how large the weights are is not known.

    """

    shape: ModelShape
    weights: str
    hardware: Hardware
    gpus: int = 1
    efficiency: Efficiency = Efficiency()

    def __post_init__(self) -> None:
        # An estimate of weights of unknown size would be none.
        self.shape.weight_bytes(self.weights)

    def prefill_seconds(self, tokens: float) -> float:
        """Return the seconds to prefill one prompt; the output layer sees its last token only."""
        shape, of = self.shape, self.efficiency
        products = 2 * (shape.parameters - 2 * shape.table) * tokens / self._rate()
        pairs = 2 * shape.layers * shape.heads * shape.head_size * tokens**2
        attention = pairs / (self.gpus * self.hardware.bf16_tflops * 1e12 * of.attention)
        fixed = shape.layers * of.layer
        return _longer(products, self._reading()) + attention + self._reduce(tokens) + fixed

    def step_seconds(self, batch: float, context: float) -> float:
        """Return the seconds of one decode step of ``batch`` requests of mean ``context``."""
        shape, of = self.shape, self.efficiency
        products = 2 * (shape.parameters - shape.table) * batch / (self._rate() * of.decode)
        kv = batch * context * shape.kv_bytes_per_token / self._sharers() / self._memory_rate()
        fixed = shape.layers * (of.layer + of.request * batch)
        return _longer(products, self._reading()) + kv + self._reduce(batch) + fixed

    def kv_capacity(self) -> int:
        """Return the tokens whose KV fits beside the weights; 0 or less when those do not fit."""
        of = self.efficiency
        usable = (self.hardware.memory_gib * of.memory - of.reserve_gib) * GIB
        free = usable - self.shape.weight_bytes(self.weights) / self.gpus
        return int(free * self._sharers() / self.shape.kv_bytes_per_token)

    def profile(self, startup: float = 60.0) -> GpuProfile:
        """Return the estimate as a profile.

        Raises:
            ValueError: the model does not fit, or needs GPUs of several nodes.

        """
        self._check()
        table = [[1000 * self.step_seconds(b, c) for c in CONTEXTS] for b in BATCHES]
        return GpuProfile(
            kv_capacity_tokens=self.kv_capacity(),
            max_batch=BATCHES[-1],
            startup=startup,
            source="estimated",
            origin=self.name,
            prefill=PrefillTable(
                lengths=LENGTHS, ms=tuple(1000 * self.prefill_seconds(n) for n in LENGTHS)
            ),
            decode=DecodeTable(
                batches=BATCHES, contexts=CONTEXTS, step_ms=tuple(tuple(row) for row in table)
            ),
        )

    @property
    def name(self) -> str:
        """The engine in words."""
        return f"{self.shape.name} {self.weights} on {self.gpus} × {self.hardware.name}"

    def _check(self) -> None:
        if self.gpus > NODE_GPUS:
            raise ValueError(f"{self.name}: an estimate covers {NODE_GPUS} GPUs at most, one node")
        if self.kv_capacity() < 1:
            gib = self.shape.weight_bytes(self.weights) / GIB
            have = self.gpus * self.hardware.memory_gib
            raise ValueError(
                f"{self.name}: {gib:.0f} GiB of weights leave no room for KV in {have:g} GiB"
            )

    def _rate(self) -> float:
        of = self.efficiency
        share = of.mfu_hbm if self.hardware.memory_kind == "HBM" else of.mfu_gddr
        if WEIGHT_BYTES[self.weights] == 1 and self.hardware.fp8_tflops:
            share *= of.fp8
        return self.gpus * self.hardware.tflops(self.weights) * 1e12 * share

    def _memory_rate(self) -> float:
        return self.hardware.memory_gbps * 1e9 * self.efficiency.mbu

    def _reading(self) -> float:
        # The embedding is looked up, not read.
        share = 1 - self.shape.table / self.shape.parameters
        return self.shape.weight_bytes(self.weights) * share / self.gpus / self._memory_rate()

    def _sharers(self) -> int:
        # A KV head lives on one GPU at least: beyond their number GPUs hold copies.
        return min(self.gpus, self.shape.kv_heads)

    def _reduce(self, tokens: float) -> float:
        # Two all-reduces a layer, of 16-bit activations, as a ring moves them.
        if self.gpus == 1:
            return 0.0
        moved = 2 * (self.gpus - 1) / self.gpus * tokens * self.shape.hidden * 2
        rate = self.hardware.link_gbps * 1e9
        if self.hardware.link == "nvlink":
            rate *= self.efficiency.nvlink
        else:
            rate *= self.efficiency.pcie / (self.gpus - 1)
        return 2 * self.shape.layers * moved / rate


def _longer(one: float, other: float) -> float:
    # Neither hides wholly behind the other where they are alike.
    return float((one**3 + other**3) ** (1 / 3))
