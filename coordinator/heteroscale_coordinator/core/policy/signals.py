"""Measures of an engine, and sums of them over a role.

Sums over a role are taken over the engines heard and scaled to those that carry traffic, by their
targets: a ratio of demand to supply is thus the ratio of the fresh subset. What nobody told is
None, never zero; an engine that is known to be idle is known to be zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from heteroscale.words import Role
from heteroscale_coordinator.core.policy.windows import Counter, Engine, Gauge

Measure = Callable[[Engine], float | None]

ENOUGH_REQUESTS = 3.0
"""Requests that must have ended for a mean per request to be worth something."""
ENOUGH_OBSERVATIONS = 5.0
"""Latencies observed for their mean to be a breach; below, the long window is read."""


def busy_counter(role: Role, engine: Engine) -> Counter:
    """Return the counter of a role's work: generated tokens, or prompt tokens that missed the cache.

    An engine that does not tell cache misses apart is read by all its prompt tokens, which errs to
    more demand. A prefill engine's own generated tokens (one a request) never count.
    """
    if role is not Role.PREFILL:
        return "generation_tokens"
    told = engine.samples.tells("computed_prompt_tokens")
    return "computed_prompt_tokens" if told else "prompt_tokens"


def target_size(engine: Engine) -> float:
    """Return the size of an engine in sums of tokens: its target."""
    return engine.target


def total(
    engines: Iterable[Engine], measure: Measure, size: Callable[[Engine], float] = target_size
) -> float | None:
    """Return the sum over engines, scaled by ``size`` from those that tell to all that carry traffic.

    Engines that are not sent traffic add what they tell, and so do those that are only just sent
    some: what they do not tell yet is little. None when none that should tell does.
    """
    carrying = told = heard = other = 0.0
    known = False
    for engine, value in _bounded([(engine, measure(engine)) for engine in engines]):
        if not engine.carrying:
            known = known or value is not None
            other += value or 0.0
            continue
        if engine.young and value is None:
            continue
        carrying += size(engine)
        if value is not None:
            told += size(engine)
            heard += value
    if carrying and not told:
        return None
    if not carrying and not known:
        return None
    return other + (heard * carrying / told if told else 0.0)


def _bounded(told: list[tuple[Engine, float | None]]) -> list[tuple[Engine, float | None]]:
    """Return what engines tell, that of outlying ones brought into the range of their peers."""
    if not any(engine.aside for engine, _ in told):
        return told
    return [
        (engine, _into_range(engine, value, told) if engine.aside else value)
        for engine, value in told
    ]


def _into_range(
    engine: Engine, value: float | None, told: list[tuple[Engine, float | None]]
) -> float | None:
    gpu = engine.member.instance.gpu_type
    peers = [
        known
        for peer, known in told
        if known is not None
        and peer.carrying
        and not peer.aside
        and peer.member.instance.gpu_type == gpu
    ]
    return None if value is None or not peers else min(max(value, min(peers)), max(peers))


def rate_of(counter: Counter, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "rate of ``counter``"."""
    return lambda engine: engine.rate(counter, length, offset)


def busy_rate(role: Role, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "rate of the role's own work"."""
    return lambda engine: engine.rate(busy_counter(role, engine), length, offset)


def arriving(
    engines: Sequence[Engine], role: Role, long: float, length: float, offset: float = 0.0
) -> Measure:
    """Return the measure "tokens/s that arrive": requests × the mean tokens of one, of the role."""
    each = tokens_per_request(engines, role, long)

    def measure(engine: Engine) -> float | None:
        rate = engine.rate("arrived", length, offset)
        return None if rate is None or each is None else rate * each

    return measure


def gauge_mean(gauge: Gauge, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "mean of ``gauge`` over the window"."""

    def measure(engine: Engine) -> float | None:
        values = _gauges(engine, gauge, length, offset)
        return sum(values) / len(values) if values else None

    return measure


def gauge_lowest(gauge: Gauge, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "lowest of ``gauge`` in the window": what was there all the time."""
    return lambda engine: min(_gauges(engine, gauge, length, offset), default=None)


def _gauges(engine: Engine, gauge: Gauge, length: float, offset: float = 0.0) -> list[float]:
    if not engine.fresh:
        return []
    span = engine.span(length, offset)
    return span.gauges(gauge) if span else []


def quotient(
    engines: Iterable[Engine], above: Counter, below: Counter, length: float
) -> tuple[float | None, float]:
    """Return (Σ rise of ``above`` ÷ Σ rise of ``below``, the divisor) over the engines that tell.

    Those that stand apart are left out.
    """
    numerator = divisor = 0.0
    for engine in engines:
        span = engine.span(length) if engine.fresh and not engine.aside else None
        top, bottom = (span.rise(above), span.rise(below)) if span else (None, None)
        if top is None or bottom is None or top < 0 or bottom < 0:
            continue
        numerator += top
        divisor += bottom
    return (numerator / divisor if divisor > 0 else None), divisor


def tokens_per_request(engines: Iterable[Engine], role: Role, length: float) -> float | None:
    """Return the mean tokens of a request in the role's own counter; None when too few have ended.

    Tokens of requests still running are in the counter, those requests are not: on average half of
    each is done, so the change in running requests (and aborted ones) counts half.
    """
    tokens = requests = 0.0
    for engine in engines:
        span = engine.span(length) if engine.fresh and not engine.aside else None
        finished = span.rise("requests_finished") if span else None
        made = span.rise(busy_counter(role, engine)) if span else None
        if span is None or finished is None or made is None:
            continue
        unfinished = (span.rise("running") or 0.0) + (span.rise("requests_aborted") or 0.0)
        tokens += made
        requests += max(finished / 2, finished + unfinished / 2)
    return tokens / requests if requests >= ENOUGH_REQUESTS else None


def mean_latency(
    engines: Sequence[Engine], kind: str, short: float, long: float
) -> tuple[float | None, float]:
    """Return (mean seconds, observations) of ``ttft`` or ``tbt``, exact from Δsum ÷ Δcount.

    The short window when it holds enough observations; otherwise the long one.
    """
    counters: tuple[Counter, Counter] = (
        ("ttft_sum", "ttft_count") if kind == "ttft" else ("tbt_sum", "tbt_count")
    )
    mean, count = quotient(engines, *counters, short)
    if count >= ENOUGH_OBSERVATIONS:
        return mean, count
    return quotient(engines, *counters, long)


def share_of(engines: Iterable[Engine], gauge: Gauge, length: float) -> float | None:
    """Return the mean of a hardware's share over instances that carry traffic and tell it, or None."""
    measure = gauge_mean(gauge, length)
    heard = [e for e in engines if e.carrying and not e.aside and e.samples.has_hardware]
    told = [value for e in heard if (value := measure(e)) is not None]
    return sum(told) / len(told) if told else None


def newest(gauge: Gauge) -> Measure:
    """Return the measure "last of ``gauge``"."""
    return lambda engine: engine.newest(gauge)
