"""Token velocity: prefill by what arrives, decode by what is held (TokenScale, arXiv 2512.03416)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, PositiveFloat, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel


def _some(value: float | dict[str, float] | None) -> float | dict[str, float] | None:
    if value == {}:
        raise ValueError("name at least one GPU type")
    return value


PerType = Annotated[
    PositiveFloat | dict[str, PositiveFloat] | None,
    AfterValidator(_some),
]
"""One number, or one for each GPU type; the mean of the given ones for a type not named."""


class NetworkSpec(DocumentModel):
    """How fast KV cache leaves a prefill instance."""

    bytes_per_second: PositiveFloat
    """Of KV cache that one prefill instance can send: its NICs' rate, less what they lose."""
    bytes_per_token: PositiveFloat
    """KV cache of one prompt token: 2 × layers × KV heads × head size × bytes of a value."""


class ConvertibleSpec(DocumentModel):
    """Decode instances to which the router itself sends prefill in a burst.

    The router decides that and must be able to: nothing is told to it. See docs/policy.md.
    """

    instances: PositiveInt
    """Decode instances that the router may use so; never counted beyond those in service."""
    tokens: PositiveFloat
    """Prompt tokens/s that one of them takes beside its decoding, at most. Too high starves decode
    of its time between tokens, and holds back prefill that is needed."""


class VelocitySpec(DocumentModel):
    """Token velocity (TokenScale): the most tokens/s that a stage moves, against what arrives."""

    mode: Literal["feedForward", "alone"] = "feedForward"
    """`feedForward`: one need beside the others, before what is served shows it. `alone`: scale-out by
    velocity and by the latency guard only; scale-in still asks for low demand and every consent."""
    prefill: PerType = None
    """V_P: cache-missed prompt tokens/s that one prefill instance computes. Default: its `target`."""
    network: PositiveFloat | NetworkSpec | None = None
    """V_N: prompt tokens/s whose KV cache one prefill instance can send, cached ones included.
    Default: no limit."""
    decode: PerType = None
    """V_D: tokens of context that one decode instance reads in a second at its best, Σ L ÷ TBT: the
    context held by all it runs, divided by its time between tokens. Default: its `target` × the context
    measured, that is no word on context at all."""
    convertible: ConvertibleSpec | None = None
    """Decode instances that bear a burst of prompts. Default: none."""

    @property
    def network_tokens(self) -> float | None:
        """V_N in prompt tokens/s of one prefill instance; None: no limit."""
        if isinstance(self.network, NetworkSpec):
            return self.network.bytes_per_second / self.network.bytes_per_token
        return self.network

    @model_validator(mode="after")
    def _moves_something(self) -> Self:
        network = self.network_tokens
        if network is not None and network < 1:
            raise ValueError(
                f"network: {network:g} prompt tokens/s is less than one; are the units bytes?"
            )
        return self
