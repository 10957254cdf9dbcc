"""Where a service's signals come from: the agents, or a Prometheus that scrapes its engines already.

How that Prometheus is reached (address, login) is the coordinator's: who may apply a service must not
choose which addresses are asked, nor which files are read as a password. What is the service's is here.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from heteroscale.documents.fields import DocumentModel
from heteroscale.words import Role
from heteroscale_coordinator.core.spec.matchers import matchers
from heteroscale_coordinator.core.spec.names import Name

WATCHER = "prometheus/"
"""Ids of what tells of a service from a Prometheus: this, and the service. No agent may be called so."""
FRESHNESS = 75.0
"""Seconds. Many are scraped every 30 s; one scrape may be missed."""

Signal = Literal[
    "generation_tokens",
    "prompt_tokens",
    "computed_prompt_tokens",
    "requests_finished",
    "requests_aborted",
    "running",
    "waiting",
    "transferring",
    "kv_usage",
    "ttft_sum",
    "ttft_count",
    "tbt_sum",
    "tbt_count",
]


class FindingSpec(DocumentModel):
    """Which series are a service's, and what they say."""

    select: str = ""
    """Matchers of the service's series, as PromQL writes them: `namespace="llm",job="chat"`. Empty:
    found by the service's name."""
    roles: dict[Role, str] = {}
    """Matchers of each role's series: `{prefill: 'pod=~"chat-prefill-.*"'}`. Empty: found by labels
    whose value says it."""
    instance_label: str = ""
    """Label that tells instances apart. Empty: `pod` where all have it, else `instance`."""
    queries: dict[Signal, str] = {}
    """PromQL of your own in place of ours: one value for each instance, with `$select` for the
    matchers and `$window` for the width of a rate. Tokens, requests and latency sums are per second."""

    @field_validator("select")
    @classmethod
    def _selects(cls, text: str) -> str:
        matchers(text)
        return text.strip().removeprefix("{").removesuffix("}").strip(" ,")

    @field_validator("roles")
    @classmethod
    def _roles(cls, given: dict[Role, str]) -> dict[Role, str]:
        for text in given.values():
            if not matchers(text):
                raise ValueError('empty matchers: write e.g. pod=~"chat-prefill-.*"')
        return given


class SourceSpec(FindingSpec):
    """Where the signals of this service's engines come from."""

    source: Literal["agents", "prometheus"] = "agents"
    """`prometheus`: read from a Prometheus that scrapes the engines already. What agents measure of
    them is then not used. Of a service that others scale (`actuation: {by: external}`) its engines are
    found there too, and no agent is needed."""
    server: Name | None = None
    """Which of the coordinator's `prometheus`; may be left out where there is one."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        said = self.model_dump(exclude_defaults=True, by_alias=True)
        if self.source == "agents" and said:
            raise ValueError(
                f"{', '.join(sorted(said))}: only a Prometheus is asked so: write `source: prometheus`"
            )
        return self
