"""Quiescence: nothing is stopped that might still be needed; unknown is never zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import Role, ScrapeQuality
from heteroscale_agent.model import EngineScrape, EngineState
from heteroscale_agent.quiescence import KV_LEASE, Progress, Terms, advance

TERMS = Terms(settle_time=5.0, quiet_scrapes=3, role=Role.DECODE)
IDLE = EngineScrape(running=0.0, waiting=0.0, transferring=0.0, kv_usage=0.3)


def state(at: float, scrape: EngineScrape = IDLE, quality: str = "ok") -> EngineState:
    return EngineState("i", ScrapeQuality(quality), at, scrape)


def walk(
    *moments: tuple[float, EngineState | None], terms: Terms = TERMS, closed: bool = True
) -> Progress:
    progress = Progress()
    for now, engine in moments:
        progress = advance(progress, terms, now, gate_closed=closed, engine=engine)
    return progress


def test_gate_then_settle_then_enough_fresh_scrapes() -> None:
    moments = [(0.0, state(0.0)), (5.0, state(5.0)), (6.0, state(6.0)), (7.0, state(7.0))]
    assert not walk(*moments).done
    assert walk(*moments, (8.0, state(8.0))).done


def test_scrapes_from_before_the_settle_end_do_not_count() -> None:
    late_looks = [(now, state(4.9)) for now in (0.0, 6.0, 7.0, 8.0, 9.0)]
    progress = walk(*late_looks)
    assert progress.quiet_scrapes == 0
    assert not progress.done


def test_the_same_scrape_counts_once() -> None:
    assert walk((0.0, None), *[(6.0 + n, state(6.0)) for n in range(9)]).quiet_scrapes == 1


def test_an_open_gate_starts_everything_anew() -> None:
    progress = walk((0.0, state(0.0)), (6.0, state(6.0)), (7.0, state(7.0)))
    assert progress.quiet_scrapes == 2
    progress = advance(progress, TERMS, 8.0, gate_closed=False, engine=state(8.0))
    assert progress.closed_at is None
    progress = advance(progress, TERMS, 9.0, gate_closed=True, engine=state(9.0))
    assert "settling" in progress.message
    assert not progress.done


@pytest.mark.parametrize(
    "scrape",
    [
        replace(IDLE, running=1.0),
        replace(IDLE, waiting=1.0),
        replace(IDLE, transferring=1.0),
        replace(IDLE, running=None),
        replace(IDLE, waiting=None),
        EngineScrape(),
    ],
)
def test_anything_not_known_to_be_zero_breaks_the_row(scrape: EngineScrape) -> None:
    start = [(0.0, None), (6.0, state(6.0)), (7.0, state(7.0))]
    progress = walk(*start, (8.0, state(8.0, scrape)), (9.0, state(9.0)), (10.0, state(10.0)))
    assert progress.quiet_scrapes == 2
    assert not progress.done


def test_missing_metrics_break_the_row_and_say_so() -> None:
    progress = walk((0.0, None), (6.0, state(6.0)), (7.0, state(6.0, quality="missing")))
    assert progress.quiet_scrapes == 0
    assert "unknown" in progress.message


def test_a_stale_scrape_says_nothing_either_way() -> None:
    progress = walk((0.0, None), (6.0, state(6.0)), (7.0, state(6.5, quality="stale")))
    assert progress.quiet_scrapes == 1


PREFILL = replace(TERMS, role=Role.PREFILL)
NO_GAUGE = replace(IDLE, transferring=None)


def test_prefill_without_a_transfer_gauge_waits_for_its_kv() -> None:
    holding = replace(NO_GAUGE, kv_usage=0.01)
    moments = [(0.0, None), *[(6.0 + n, state(6.0 + n, holding)) for n in range(20)]]
    progress = walk(*moments, terms=PREFILL)
    assert not progress.done
    assert "KV usage 1.0000%" in progress.message
    empty = replace(NO_GAUGE, kv_usage=0.0)
    moments += [(30.0 + n, state(30.0 + n, empty)) for n in range(3)]
    assert walk(*moments, terms=PREFILL).done


@pytest.mark.parametrize("usage", [0.01, None])
def test_prefill_kv_that_never_empties_is_waited_out(usage: float | None) -> None:
    holding = replace(NO_GAUGE, kv_usage=usage)
    quiet = [(0.0, None), *[(6.0 + n, state(6.0 + n, holding)) for n in range(int(KV_LEASE))]]
    assert not walk(*quiet, terms=PREFILL).done
    more = [(6.0 + KV_LEASE + n, state(6.0 + KV_LEASE + n, holding)) for n in range(3)]
    assert walk(*quiet, *more, terms=PREFILL).done
    # A request in the midst of it begins the waiting anew.
    busy = (300.5, state(300.5, replace(holding, running=1.0)))
    broken = sorted([*quiet, *more, busy], key=lambda moment: moment[0])
    assert not walk(*broken, terms=PREFILL).done


def test_a_template_may_know_a_longer_lease() -> None:
    holding = replace(NO_GAUGE, kv_usage=0.01)
    terms = replace(PREFILL, kv_lease=2 * KV_LEASE)
    ends = 6 + 2 * int(KV_LEASE)
    quiet = [(0.0, None), *[(float(at), state(float(at), holding)) for at in range(6, ends)]]
    assert not walk(*quiet, terms=terms).done
    assert walk(
        *quiet, *[(at, state(at, holding)) for at in (ends, ends + 1.0, ends + 2.0)], terms=terms
    ).done


def test_prefill_with_a_transfer_gauge_trusts_it() -> None:
    moments = [(0.0, None), *[(6.0 + n, state(6.0 + n)) for n in range(3)]]
    assert walk(*moments, terms=PREFILL).done


def test_decode_may_keep_a_prefix_cache() -> None:
    moments = [(0.0, None), *[(6.0 + n, state(6.0 + n, NO_GAUGE)) for n in range(3)]]
    assert walk(*moments).done
