"""What a user writes of signals that come from a Prometheus (``kind: Signals``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, field_validator, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import Name
from heteroscale_coordinator.edge.prometheus.matchers import matchers

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
RATES: frozenset[str] = frozenset(
    {
        *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
        *("requests_finished", "requests_aborted"),
        *("ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
    }
)
"""Signals that are a counter's rise per second; the others are gauges."""


class PrometheusSpec(DocumentModel):
    """A Prometheus, or what speaks its HTTP API: Thanos, Mimir, VictoriaMetrics."""

    source: Literal["prometheus"] = "prometheus"
    """Where signals come from."""
    url: str
    """Its address, as far as `/api/v1` goes: http://prometheus:9090, for Mimir
    http://mimir/prometheus, for VictoriaMetrics' cluster http://vmselect:8481/select/0/prometheus."""
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
    bearer_token_file: str | None = None
    """File with a token, sent as `Authorization: Bearer`."""
    username: str | None = None
    """Of basic authentication; with `passwordFile`."""
    password_file: str | None = None
    """File with its password."""
    ca_file: str | None = None
    """Certificates (PEM) to trust for https, instead of the system's."""
    tenant: str | None = None
    """`X-Scope-OrgID`, for a Mimir or Cortex of several tenants."""
    timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """Each request must be answered within this."""
    max_bytes: PositiveInt = 64 * 1024 * 1024
    """A longer answer is refused."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address: write http://HOST:9090 or https://HOST")
        if parts.username or parts.password:
            raise ValueError(
                "a password in an address is seen by everybody: write `username` and `passwordFile`"
            )
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r}: leave out what follows ? or #")
        return url.rstrip("/").removesuffix("/api/v1")

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

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and passwordFile go together")
        if self.username is not None and self.bearer_token_file is not None:
            raise ValueError("write bearerTokenFile, or username and passwordFile; not both")
        return self


class SignalsMetadata(DocumentModel):
    """Names the service whose signals these are."""

    name: Name


class SignalsDocument(DocumentModel):
    """A whole YAML document of kind Signals."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Signals"]
    metadata: SignalsMetadata
    spec: PrometheusSpec
