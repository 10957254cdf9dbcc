"""The profile of an engine: how long its work takes on each GPU type, and how far KV must travel.

Written as YAML (``kind: EngineProfile``), read strictly. Times are milliseconds at speed 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_simulator.profiles.grid import bilinear, linear

Distance = Literal["s0", "s1", "s2", "cluster"]
DISTANCES: tuple[Distance, ...] = ("s0", "s1", "s2", "cluster")
"""Nearest network domain two instances share; ``cluster`` when they share none of the nearer."""

Source = Literal["stated", "measured", "extended", "estimated"]
"""Where times come from: written by hand; measured; measured, and estimated beyond that; estimated."""


class RangeError(ValueError):
    """Times were asked for beyond what was measured."""


class Measured(DocumentModel):
    """How far the measurements behind a profile reach."""

    prompt: PositiveFloat
    """Longest prompt, in tokens."""
    context: PositiveFloat
    """Longest context of a decode step, in tokens."""


class PrefillTable(DocumentModel):
    """Milliseconds to prefill a prompt, by its length in tokens; lengths rise."""

    lengths: tuple[PositiveFloat, ...]
    ms: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _shape(self) -> Self:
        _check_axis("lengths", self.lengths)
        if len(self.ms) != len(self.lengths):
            raise ValueError(f"{len(self.ms)} values in ms for {len(self.lengths)} lengths")
        return self


class DecodeTable(DocumentModel):
    """Milliseconds of one decode step, by batch (rows) and mean context in tokens (columns)."""

    batches: tuple[PositiveFloat, ...]
    contexts: tuple[PositiveFloat, ...]
    step_ms: tuple[tuple[PositiveFloat, ...], ...]

    @model_validator(mode="after")
    def _shape(self) -> Self:
        _check_axis("batches", self.batches)
        _check_axis("contexts", self.contexts)
        wide = {len(row) for row in self.step_ms}
        if len(self.step_ms) != len(self.batches) or wide != {len(self.contexts)}:
            raise ValueError("stepMs needs one row for each batch, one value for each context")
        return self


class GpuProfile(DocumentModel):
    """One GPU type (or one tensor-parallel set of it) under one model."""

    kv_capacity_tokens: PositiveInt
    """Tokens whose KV fits beside the weights."""
    max_batch: PositiveInt = 256
    """Most requests that decode together."""
    max_prefill_tokens: PositiveInt = 8192
    """Most prompt tokens prefilled together; a longer prompt is prefilled alone."""
    startup: Duration = 60.0
    """From process start until the engine answers /health."""
    source: Source = "stated"
    """Where the times come from; beyond ``measured`` all but ``stated`` ones are estimates."""
    measured: Measured | None = None
    """How far measurements reach; None where there are none."""
    strict: bool = False
    """Refuse what lies beyond ``measured``, instead of carrying the last line on."""
    origin: str = ""
    """File, GPU, model, weights and TP behind the times, for messages."""
    prefill: PrefillTable
    decode: DecodeTable

    def require(self, *, prompt: float = 0, context: float = 0) -> None:
        """Refuse lengths, in tokens, that a strict profile was not measured at.

        Raises:
            RangeError: with what was asked, what there is, and where it is from.

        """
        if not (self.strict and self.measured):
            return
        for what, asked, edge in (
            ("a prompt", prompt, self.measured.prompt),
            ("a context", context, self.measured.context),
        ):
            if asked > edge:
                raise RangeError(
                    f"{self.origin}: {what} of {asked:.0f} tokens is beyond the measured {edge:.0f};"
                    " measure further, or extend the tables by estimates (--extend-profiles)"
                )

    def prefill_seconds(self, tokens: float) -> float:
        """Return the seconds one prefill of ``tokens`` prompt tokens takes; 0 for none.

        Raises:
            RangeError: the profile is strict, and was not measured so far.

        """
        if tokens <= 0:
            return 0.0
        self.require(prompt=tokens)
        return linear(self.prefill.lengths, self.prefill.ms, tokens) / 1000

    def step_seconds(self, batch: float, context: float) -> float:
        """Return the seconds of one decode step of ``batch`` requests of mean ``context``.

        Raises:
            RangeError: the profile is strict, and was not measured so far.

        """
        self.require(context=context)
        table = self.decode
        return bilinear(table.batches, table.contexts, table.step_ms, batch, context) / 1000

    def prefill_rate(self, tokens: float) -> float:
        """Return prompt tokens per second when prompts of ``tokens`` follow one another."""
        return tokens / self.prefill_seconds(tokens)

    def decode_rate(self, context: float, limit: float | None = None) -> tuple[float, int]:
        """Return (tokens/s, batch) of the largest batch that fits.

        ``context`` is the mean in tokens, and bounds the batch by the KV capacity; ``limit`` is the
        longest step allowed, in seconds. (0, 0) when not even one request keeps the limit.
        """
        fits = min(self.max_batch, int(self.kv_capacity_tokens // max(context, 1.0)))
        for batch in range(fits, 0, -1):
            step = self.step_seconds(batch, context)
            if limit is None or step <= limit:
                return batch / step, batch
        return 0.0, 0


class LinkProfile(DocumentModel):
    """KV transfer between two instances at one network distance."""

    gigabytes_per_second: PositiveFloat
    """What one instance moves at most, in or out."""
    latency_ms: NonNegativeFloat = 0.0
    """Before the first byte comes, in milliseconds."""


class TransferProfile(DocumentModel):
    """KV transfer by the nearest network domain that both ends share."""

    s0: LinkProfile
    s1: LinkProfile
    s2: LinkProfile
    cluster: LinkProfile

    def link(self, distance: Distance) -> LinkProfile:
        """Return the link of ``distance``."""
        links = {"s0": self.s0, "s1": self.s1, "s2": self.s2, "cluster": self.cluster}
        return links[distance]


class EngineProfile(DocumentModel):
    """A model served by an engine, on each GPU type it was measured on."""

    model: str = "simulated"
    kv_bytes_per_token: PositiveInt
    """Bytes a prefill hands to a decode for each prompt token."""
    transfer: TransferProfile
    gpus: Annotated[dict[str, GpuProfile], Field(min_length=1)]

    def gpu(self, name: str) -> GpuProfile:
        """Return the profile of GPU type ``name``.

        Raises:
            KeyError: with the names there are.

        """
        try:
            return self.gpus[name]
        except KeyError:
            known = ", ".join(sorted(self.gpus))
            raise KeyError(f"no GPU type {name!r} in the profile; it has {known}") from None


class ProfileMetadata(DocumentModel):
    """Names a profile."""

    name: str


class ProfileDocument(DocumentModel):
    """A whole YAML document of kind EngineProfile."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["EngineProfile"]
    metadata: ProfileMetadata
    spec: EngineProfile


def _check_axis(name: str, axis: tuple[float, ...]) -> None:
    if not axis:
        raise ValueError(f"{name} is empty")
    if any(a >= b for a, b in pairwise(axis)):
        raise ValueError(f"{name} must rise: {list(axis)}")
