"""Roles of a service: what is launched, between which counts, and what one instance should carry."""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Name

UNLEARNED = 1000.0
"""Tokens/s by which a role that learns its target is counted before anything was seen: a guess, by
which nothing is done."""


LEAST_FACTOR, LARGEST_FACTOR = 0.01, 100.0
"""What no prompt's length makes of a target: beyond them tokens/s were written, or percent."""
PromptTokens = Annotated[int, Field(gt=0, json_schema_extra={"pattern": "^[1-9][0-9]*$"})]


class RoleSpec(DocumentModel):
    """One role of a service: what is launched for it, on what, between which counts."""

    template: Name = ""
    """Launch template of the agents; an agent that does not allow it is not asked. Needed unless others
    start the instances (`actuation: {by: external}`)."""
    gpu_types: tuple[str, ...] = ()
    """GPU types in order of preference, e.g. [H20, L20]. Empty: any, the cheapest first where the
    coordinator knows prices."""
    gpu_choice: Literal["listed", "cheapest"] = "listed"
    """`cheapest`: of the types listed, the least price for each token first: price per GPU-hour (the
    coordinator's `rules.prices`) × GPUs ÷ `target`. Types without a price come last."""
    gpus: PositiveInt = 1
    """GPUs of one rank."""
    ranks: PositiveInt = 1
    """Processes of one instance, each on an agent of its own when above 1."""
    min: PositiveInt = 1
    """Fewest instances; what is missing is launched whatever the signals say."""
    essential: PositiveInt | None = None
    """Count below which it never shrinks for services of higher priority; unset: `min`."""
    max: PositiveInt = 1
    """Most instances in service, starting or silent. Withdrawn ones still hold GPUs: see `maxGpus`."""
    target: PositiveFloat | Literal["learn"] | dict[str, PositiveFloat] = 1000.0
    """Tokens per second one instance should carry at the measured mean context: decode tokens for
    decode and aggregated, cache-missed prompt tokens for prefill. One number, or one for each GPU
    type. Too high queues requests before a scale-out comes; too low wastes GPUs. From a pressure test;
    or `learn`: the service only advises, and `explain` tells what was learned, until it is a number."""
    target_by_prompt: dict[PromptTokens, PositiveFloat] = {}
    """Factor on `target` by the mean prompt tokens of the requests, e.g. {800: 1.4, 2200: 0.7}: long
    prompts make tokens slower. Between two points seconds per token follow a straight line; beyond
    them the nearest holds. Empty: `target` holds at every length. From a pressure test."""
    startup_timeout: Duration = 600.0
    """Not ready after this long: the launch has failed, and is tried elsewhere with backoff."""
    parameters: dict[str, str] = {}
    """Values for `{name}` in the launch template."""

    @field_validator("target_by_prompt", mode="before")
    @classmethod
    def _by_prompt(cls, given: Any) -> Any:
        """Refuse what is no map of prompt tokens to factors, in words that say what to write."""
        if not isinstance(given, dict):
            raise ValueError(  # noqa: TRY004 - no other error is a violation to pydantic
                "write prompt tokens and a factor for each, e.g. {800: 1.4, 2200: 0.7}"
            )
        for tokens, factor in given.items():
            if not str(tokens).isdecimal() or not int(tokens):
                raise ValueError(
                    f"{tokens!r} is no number of prompt tokens: write a whole one above 0, e.g. 800"
                )
            number = isinstance(factor, int | float)
            if number and not LEAST_FACTOR <= factor <= LARGEST_FACTOR:
                raise ValueError(
                    f"{factor:g} at {tokens} is no factor from {LEAST_FACTOR:g} to "
                    f"{LARGEST_FACTOR:g}: write what is carried there ÷ `target`, e.g. 0.7"
                )
        return given

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.essential is not None and self.essential > self.max:
            raise ValueError(f"essential {self.essential} is above max {self.max}")
        return self

    def target_of(self, gpu_type: str) -> float:
        """Return the target of ``gpu_type``; the mean of the given ones for a type not named."""
        if isinstance(self.target, dict):
            fallback = sum(self.target.values()) / len(self.target)
            return self.target.get(gpu_type, fallback)
        return UNLEARNED if self.target == "learn" else self.target

    def factor_at(self, prompt: float) -> float:
        """Return the factor on the target where requests have ``prompt`` tokens on average."""
        points = sorted(self.target_by_prompt)
        if not points:
            return 1.0
        after = bisect_left(points, prompt)
        if after in (0, len(points)):
            return self.target_by_prompt[points[min(after, len(points) - 1)]]
        low, high = points[after - 1], points[after]
        share = (prompt - low) / (high - low)
        slow = (1 - share) / self.target_by_prompt[low] + share / self.target_by_prompt[high]
        return 1 / slow

    @model_validator(mode="after")
    def _target_named(self) -> Self:
        if isinstance(self.target, dict) and not self.target:
            raise ValueError("target: name at least one GPU type")
        return self
