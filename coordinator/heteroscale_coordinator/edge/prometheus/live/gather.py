"""From looks to samples: what is cumulative, how old it is, and what of it is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import EngineSample, LatencySample
from heteroscale_coordinator.edge.prometheus.live.look import Look
from heteroscale_coordinator.edge.prometheus.live.rising import Rising, Summed

COUNTERS = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted"),
)
GAUGES = ("running", "waiting", "transferring", "kv_usage")
_PARTS = ("ttft_sum", "ttft_count", "tbt_sum", "tbt_count")
SET_BACK = 60.0
"""Seconds by which a server's clock, or its newest sample, may go back and be waited for."""


@dataclass(slots=True)
class _Engine:
    """What is kept of one."""

    scraped_at: float = float("-inf")
    """When its newest sample was scraped, by the server's clock."""
    totals: dict[str, Rising | Summed] = field(default_factory=dict)


class Gatherer:
    """Makes samples of looks."""

    def __init__(self) -> None:
        self._engines: dict[str, _Engine] = {}

    def samples(
        self, look: Look, ids: Mapping[str, str], received: float, freshness: float
    ) -> Iterator[EngineSample]:
        """Yield a sample of each instance that was scraped since the look before.

        ``ids``: instance ids by name. ``received``: when the look was answered, by the coordinator's
        clock. Ages count back from there, so the two clocks are never compared.
        """
        for gone in self._engines.keys() - set(ids.values()):
            del self._engines[gone]
        for name, instance_id in ids.items():
            age = look.ages.get(name)
            if age is None:
                continue
            if age > freshness:
                yield EngineSample(instance_id, ScrapeQuality.STALE, received - age)
                continue
            known = self._engines.setdefault(instance_id, _Engine())
            scraped_at = look.at - age
            if scraped_at < known.scraped_at - SET_BACK:
                known = self._engines[instance_id] = _Engine()
            if scraped_at > known.scraped_at + 1e-3:
                known.scraped_at = scraped_at
                yield _sample(known, look, name, instance_id, received - age)


def _sample(known: _Engine, look: Look, name: str, instance_id: str, at: float) -> EngineSample:
    told = {signal: values.get(name) for signal, values in look.values.items()}
    totals = {
        signal: _total(known, look, signal, told.get(signal)) for signal in (*COUNTERS, *_PARTS)
    }
    usage = told.get("kv_usage")
    return EngineSample(
        instance_id,
        ScrapeQuality.OK,
        at,
        **{signal: totals[signal] for signal in COUNTERS},
        running=told.get("running"),
        waiting=told.get("waiting"),
        transferring=told.get("transferring"),
        kv_usage=usage if usage is None or usage <= 1 else None,
        ttft=_latency(totals["ttft_sum"], totals["ttft_count"]),
        tbt=_latency(totals["tbt_sum"], totals["tbt_count"]),
    )


def _total(known: _Engine, look: Look, signal: str, value: float | None) -> float | None:
    made = Summed if signal in look.rates else Rising
    kept = known.totals.get(signal)
    if not isinstance(kept, made):
        kept = known.totals[signal] = made()
    return kept.fold(value, known.scraped_at)


def _latency(total: float | None, count: float | None) -> LatencySample | None:
    return None if total is None or count is None else LatencySample(total, count)
