"""Queries are made from the names that are there, of pages recorded from real engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from heteroscale.engines import MAPPINGS
from heteroscale.engines.base import EngineMapping, Quantity, series
from heteroscale_coordinator.edge.prometheus import promql

PAGES = Path(__file__).parents[2] / "agent" / "fixtures"
LOADED = {"vllm": "vllm-0.32-loaded.txt", "sglang": "sglang-0.5.23-loaded.txt"}


def shown(page: Path) -> frozenset[str]:
    """Return the names of a recorded page's series, as a Prometheus would keep them."""
    return frozenset(re.findall(r"^([a-zA-Z_:][\w:]*)", page.read_text("utf-8"), re.MULTILINE))


def made(engine: str) -> dict[str, str]:
    """Return the queries for the loaded page of an engine."""
    return promql.queries(MAPPINGS[engine], shown(PAGES / LOADED[engine]), "pod")


def test_vllms_are_rates_of_counters_and_fresh_gauges() -> None:
    found = made("vllm")
    assert found["generation_tokens"] == (
        "sum by (pod) (rate(vllm:generation_tokens_total{$select}[$window]))"
    )
    assert found["running"] == (
        "sum by (pod) (last_over_time(vllm:num_requests_running{$select}[$window]))"
    )
    assert 'source="local_compute",$select' in found["computed_prompt_tokens"]
    assert found["requests_aborted"].count('finished_reason=~"abort|error",$select') == 1
    assert found["ttft_sum"] == (
        "sum by (pod) (rate(vllm:time_to_first_token_seconds_sum{$select}[$window]))"
    )


def test_sglangs_ranks_that_say_the_same_count_once() -> None:
    found = made("sglang")
    for query in found.values():
        if not query.startswith("max by"):
            assert "max without (moe_ep_rank, pid, pp_rank, tp_rank)" in query
    assert 'sglang:num_running_reqs{priority="",$select}' in found["running"]


def test_what_is_not_there_has_no_query() -> None:
    assert promql.queries(MAPPINGS["vllm"], frozenset(), "pod") == {}
    one = promql.queries(MAPPINGS["vllm"], frozenset({"vllm:num_requests_running"}), "pod")
    assert set(one) == {"running"}


def test_an_older_name_stands_in_where_the_newer_is_missing() -> None:
    old = frozenset({"vllm:gpu_cache_usage_perc"})
    assert promql.queries(MAPPINGS["vllm"], old, "i")["kv_usage"] == (
        "max by (i) (last_over_time(vllm:gpu_cache_usage_perc{$select}[$window]))"
    )
    both = old | {"vllm:kv_cache_usage_perc"}
    query = promql.queries(MAPPINGS["vllm"], both, "i")["kv_usage"]
    assert query.index("vllm:kv_cache_usage_perc") < query.index(" or ") < query.index("vllm:gpu_")


def test_what_is_optional_counts_as_nothing_where_it_is_not_shown() -> None:
    mapping = EngineMapping(
        name="x",
        running=(Quantity((series("run"),)),),
        waiting=(Quantity((series("queue"),), optional=(series("more"), series("absent"))),),
    )
    found = promql.queries(mapping, frozenset({"run", "queue", "more"}), "i")
    assert found["waiting"] == (
        "(sum by (i) (last_over_time(queue{$select}[$window])))"
        " + (sum by (i) (last_over_time(more{$select}[$window]))"
        " or (sum by (i) (last_over_time(run{$select}[$window]))) * 0)"
    )


def test_a_difference_never_falls_below_zero() -> None:
    mapping = EngineMapping(
        name="x", computed_prompt_tokens=(Quantity((series("all"),), minus=(series("cached"),)),)
    )
    found = promql.queries(mapping, frozenset({"all_total", "cached_total"}), "i")
    assert found["computed_prompt_tokens"].startswith("clamp_min(")


@pytest.mark.parametrize(
    ("query", "select", "filled"),
    [
        ("rate(a{$select}[$window])", 'job="x"', 'rate(a{job="x"}[60s])'),
        ("rate(a{$select}[$window])", "", "rate(a{}[60s])"),
        ('rate(a{b="c",$select}[$window])', "", 'rate(a{b="c"}[60s])'),
        ('rate(a{b="c",$select}[$window])', 'd="e"', 'rate(a{b="c",d="e"}[60s])'),
    ],
)
def test_matchers_and_window_are_filled_in(query: str, select: str, filled: str) -> None:
    assert promql.fill(query, select, 60.0) == filled


def test_every_engine_shows_itself_by_what_it_runs() -> None:
    for mapping in MAPPINGS.values():
        assert promql.presence_names(mapping)
        assert promql.presence_names(mapping) <= promql.names(mapping)
