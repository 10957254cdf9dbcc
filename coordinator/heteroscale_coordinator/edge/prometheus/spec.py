"""What a user writes of signals that come from a Prometheus (``kind: Signals``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, field_validator, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec import Name
from heteroscale_coordinator.core.spec.source import FindingSpec

RATES: frozenset[str] = frozenset(
    {
        *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
        *("requests_finished", "requests_aborted"),
        *("ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
    }
)
"""Signals that are a counter's rise per second; the others are gauges."""


class ServerSpec(DocumentModel):
    """A Prometheus, or what speaks its HTTP API: Thanos, Mimir, VictoriaMetrics."""

    url: str
    """Its address, as far as `/api/v1` goes: http://prometheus:9090, for Mimir
    http://mimir/prometheus, for VictoriaMetrics' cluster http://vmselect:8481/select/0/prometheus."""
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

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and passwordFile go together")
        if self.username is not None and self.bearer_token_file is not None:
            raise ValueError("write bearerTokenFile, or username and passwordFile; not both")
        return self


class WatchedServer(ServerSpec):
    """A Prometheus that the coordinator takes signals from, for services that name it."""

    interval: Annotated[Duration, Field(ge=1)] = 10.0
    """How often it is asked for each service. Shorter than it scrapes tells nothing more."""
    gone_after: Annotated[Duration, Field(gt=0)] = 120.0
    """An engine that was found here and whose series ended is unknown, and still counted; after so long
    of good answers without it, it is gone."""
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Each request must be answered within this."""
    max_bytes: PositiveInt = 16 * 1024 * 1024
    """A longer answer is refused."""


class PrometheusSpec(FindingSpec, ServerSpec):
    """A Prometheus, and what in it is a service's."""

    source: Literal["prometheus"] = "prometheus"
    """Where signals come from."""


class SignalsMetadata(DocumentModel):
    """Names the service whose signals these are."""

    name: Name


class SignalsDocument(DocumentModel):
    """A whole YAML document of kind Signals."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Signals"]
    metadata: SignalsMetadata
    spec: PrometheusSpec
