"""What the mapping files make of real metrics texts, of old names, and of nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_agent.model import EngineScrape, LatencyReading
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import read
from heteroscale_agent.probes.engines.text import MAX_CHOSEN_CHARS, MetricsTextError

FIXTURES = Path(__file__).parent / "fixtures"


def scrape(engine: str, text: str, model_name: str = "") -> EngineScrape:
    return read(MAPPINGS[engine], text, model_name)


def fixture(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text(encoding="utf-8")


def test_vllm_under_load() -> None:
    seen = scrape("vllm", fixture("vllm-0.32-loaded"))
    assert seen.generation_tokens == 10961
    assert seen.prompt_tokens == seen.computed_prompt_tokens == 2267
    assert (seen.requests_finished, seen.requests_aborted) == (48, 0)
    assert (seen.running, seen.waiting, seen.transferring) == (8, 56, None)
    assert seen.kv_usage == pytest.approx(0.6957, abs=1e-4)
    assert seen.time_between_tokens is not None
    assert seen.time_between_tokens.count == 10905
    assert seen.time_between_tokens.bounds[:3] == (0.01, 0.025, 0.05)
    assert seen.time_between_tokens.counts[:4] == (10779, 125, 1, 0)
    assert sum(seen.time_between_tokens.counts) == 10905


def test_vllm_prefill_side_computes_what_missed_the_cache() -> None:
    seen = scrape("vllm", fixture("vllm-0.32-pd-prefill"))
    assert (seen.prompt_tokens, seen.computed_prompt_tokens) == (6910, 6142)
    # No gauge of open transfers: unknown, and KV usage is what quiescence has to go by.
    assert seen.transferring is None
    assert seen.kv_usage == 0


def test_a_vllm_prefill_that_holds_kv_shows_it_by_its_usage_alone() -> None:
    seen = scrape("vllm", fixture("vllm-0.32-pd-prefill-holding"))
    assert (seen.running, seen.waiting, seen.transferring) == (0, 0, None)
    assert seen.kv_usage == pytest.approx(0.0007, abs=1e-4)


def test_vllm_decode_side_computes_nothing_and_shows_its_fetches() -> None:
    text = fixture("vllm-0.32-pd-decode")
    seen = scrape("vllm", text)
    assert (seen.prompt_tokens, seen.computed_prompt_tokens) == (6009, 0)
    assert seen.transferring == 0
    busy = text.replace('stage="in_progress"} 0.0', 'stage="in_progress"} 3.0').replace(
        'stage="waiting_to_start"} 0.0', 'stage="waiting_to_start"} 2.0'
    )
    assert scrape("vllm", busy).transferring == 5


def test_sglang_under_load() -> None:
    seen = scrape("sglang", fixture("sglang-0.5.23-loaded"))
    assert seen.generation_tokens == 9296
    assert (seen.prompt_tokens, seen.computed_prompt_tokens) == (6863, 6863 - 271)
    assert seen.requests_finished == 171
    assert seen.requests_aborted is None
    assert (seen.running, seen.waiting, seen.transferring) == (7, 23, 0)
    assert seen.kv_usage == 0.09
    assert seen.time_to_first_token is not None
    assert seen.time_to_first_token.count == 172
    assert seen.time_to_first_token.counts[0] == 59


def test_llamacpp_under_load() -> None:
    seen = scrape("llamacpp", fixture("llamacpp-11434-loaded"))
    assert (seen.running, seen.waiting, seen.in_flight) == (4, 2, 6)
    assert seen.generation_tokens == 90
    # Its own counter leaves the cached ones out.
    assert (seen.prompt_tokens, seen.computed_prompt_tokens) == (23 + 9, 23)
    # What it does not show is unknown.
    assert (seen.requests_finished, seen.requests_aborted, seen.transferring) == (None, None, None)
    assert (seen.kv_usage, seen.time_to_first_token, seen.time_between_tokens) == (None,) * 3


def test_old_llamacpp_shows_kv_usage_and_no_cached_tokens() -> None:
    seen = scrape(
        "llamacpp",
        """
llamacpp:prompt_tokens_total 23
llamacpp:tokens_predicted_total 90
llamacpp:kv_cache_usage_ratio 0.25
llamacpp:requests_processing 1
llamacpp:requests_deferred 0
""",
    )
    assert (seen.prompt_tokens, seen.computed_prompt_tokens) == (None, 23)
    assert seen.kv_usage == 0.25


def test_trtllm_serve_by_its_documented_names() -> None:
    labels = '{engine_type="trtllm",model_name="m"}'
    seen = scrape(
        "tensorrt-llm",
        f"""
trtllm_generation_tokens_total{labels} 900
trtllm_prompt_tokens_total{labels} 500
trtllm_prompt_cached_tokens_total{labels} 120
trtllm_request_success_total{{finished_reason="stop",model_name="m"}} 5
trtllm_request_success_total{{finished_reason="length",model_name="m"}} 2
trtllm_num_requests_running{labels} 3
trtllm_num_requests_waiting{labels} 1
trtllm_kv_cache_utilization{labels} 0.4
trtllm_time_to_first_token_seconds_bucket{{le="0.1",model_name="m"}} 6
trtllm_time_to_first_token_seconds_bucket{{le="+Inf",model_name="m"}} 7
trtllm_time_to_first_token_seconds_count{labels} 7
trtllm_time_to_first_token_seconds_sum{labels} 0.7
""",
        "m",
    )
    assert seen == EngineScrape(
        generation_tokens=900,
        prompt_tokens=500,
        computed_prompt_tokens=380,
        requests_finished=7,
        running=3,
        waiting=1,
        kv_usage=0.4,
        time_to_first_token=LatencyReading(0.7, 7, (0.1,), (6, 1)),
    )


def test_tensorrt_llm_through_triton_by_its_documented_names() -> None:
    seen = scrape(
        "tensorrt-llm",
        """
nv_trt_llm_request_metrics{model="a",request_type="active",version="1"} 3
nv_trt_llm_request_metrics{model="a",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="a",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="b",request_type="active",version="1"} 9
nv_llm_output_token_len_sum{model="a",version="1"} 70
nv_llm_output_token_len_count{model="a",version="1"} 7
""",
        "a",
    )
    assert (seen.running, seen.waiting) == (3, 2)
    assert (seen.generation_tokens, seen.requests_finished) == (70, 7)
    assert seen.time_to_first_token is None


TGI = """
tgi_request_generated_tokens_bucket{le="10"} 3
tgi_request_generated_tokens_sum 64
tgi_request_generated_tokens_count 5
tgi_request_input_length_sum 250
tgi_request_success 5
tgi_batch_current_size 2
tgi_queue_size 1
tgi_request_mean_time_per_token_duration_sum 0.5
tgi_request_mean_time_per_token_duration_count 5
"""


def test_tgi_by_its_documented_names() -> None:
    seen = scrape("tgi", TGI)
    assert (seen.generation_tokens, seen.prompt_tokens, seen.requests_finished) == (64, 250, 5)
    assert (seen.computed_prompt_tokens, seen.time_to_first_token, seen.kv_usage) == (None,) * 3
    assert (seen.running, seen.waiting) == (2, 1)
    assert seen.time_between_tokens == LatencyReading(0.5, 5)


def test_a_counter_that_comes_with_its_first_event_stands_at_zero_before() -> None:
    assert scrape("tgi", TGI).requests_aborted == 0
    failed = 'tgi_request_failure{err="generation"} 2\ntgi_request_failure{err="overloaded"} 9\n'
    assert scrape("tgi", TGI + failed).requests_aborted == 2
    # Neither it nor its neighbour: a page that we do not know.
    assert scrape("tgi", "tgi_queue_size 1\n").requests_aborted is None


@pytest.mark.parametrize("engine", sorted(MAPPINGS))
def test_a_kind_is_experimental_until_a_release_was_recorded(engine: str) -> None:
    recorded = any(FIXTURES.glob(f"{engine}-*.txt"))
    assert MAPPINGS[engine].experimental is not recorded


def test_a_histogram_without_its_sum_is_unknown() -> None:
    text = "vllm:time_to_first_token_seconds_count 9\nvllm:num_requests_running 1\n"
    assert scrape("vllm", text).time_to_first_token is None


def test_a_histogram_of_nothing_but_its_total_has_no_buckets() -> None:
    name = "vllm:time_to_first_token_seconds"
    text = f'{name}_bucket{{le="+Inf"}} 9\n{name}_count 9\n{name}_sum 3\n'
    assert scrape("vllm", text).time_to_first_token == LatencyReading(3, 9)


def test_old_vllm_names() -> None:
    seen = scrape(
        "vllm",
        """
vllm:generation_tokens{model_name="m"} 10
vllm:prompt_tokens_total{model_name="m"} 100
vllm:gpu_prefix_cache_hits_total{model_name="m"} 40
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:time_per_output_token_seconds_sum{model_name="m"} 2
vllm:time_per_output_token_seconds_count{model_name="m"} 20
""",
    )
    assert (seen.generation_tokens, seen.prompt_tokens, seen.computed_prompt_tokens) == (
        10,
        100,
        60,
    )
    assert seen.kv_usage == 0.5
    assert seen.time_between_tokens == LatencyReading(2, 20)


def test_request_reasons_are_told_apart() -> None:
    lines = "".join(
        f'vllm:request_success_total{{finished_reason="{reason}"}} {count}\n'
        for reason, count in (("stop", 5), ("length", 3), ("abort", 2), ("error", 1))
    )
    seen = scrape("vllm", lines)
    assert (seen.requests_finished, seen.requests_aborted) == (8, 3)


def test_all_sglang_transfer_queues_are_transferring() -> None:
    queues = (
        *("prefill_bootstrap", "prefill_inflight", "decode_prealloc"),
        *("decode_transfer", "decode_host_receive", "decode_deferred_kv_release"),
    )
    text = fixture("sglang-0.5.23-loaded")
    for index, queue in enumerate(queues):
        name = f"sglang:num_{queue}"
        found = [line for line in text.splitlines() if line.startswith(name)]
        assert len(found) == 1, queue
        text = text.replace(found[0], found[0].rsplit(" ", 1)[0] + f" {10**index}")
    assert scrape("sglang", text).transferring == 111_111


def test_data_parallel_ranks_are_summed_and_replicas_are_not() -> None:
    vllm = scrape(
        "vllm",
        'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 4\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.9\n',
    )
    assert (vllm.running, vllm.kv_usage) == (7, 0.9)
    rows = ((0, 0, 3), (0, 1, 3), (1, 2, 4), (1, 3, 4))
    sglang = "".join(
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}",model_name="m"}} {value}\n'
        for dp, tp, value in rows
    )
    assert scrape("sglang", sglang).running == 7


def test_histograms_of_ranks_are_added_bucket_by_bucket() -> None:
    def rank(engine: int, first: int, count: int) -> str:
        name = "vllm:inter_token_latency_seconds"
        return (
            f'{name}_bucket{{engine="{engine}",le="0.1"}} {first}\n'
            f'{name}_bucket{{engine="{engine}",le="+Inf"}} {count}\n'
            f'{name}_count{{engine="{engine}"}} {count}\n{name}_sum{{engine="{engine}"}} 1.5\n'
        )

    seen = scrape("vllm", rank(0, 2, 5) + rank(1, 1, 4))
    assert seen.time_between_tokens == LatencyReading(3.0, 9, (0.1,), (3, 6))


def test_priority_scheduling_shows_the_total_once() -> None:
    seen = scrape(
        "sglang",
        'sglang:num_queue_reqs{priority=""} 5\nsglang:num_queue_reqs{priority="1"} 5\n',
    )
    assert seen.waiting == 5


def test_only_the_named_model_counts() -> None:
    text = (
        'vllm:num_requests_running{model_name="a"} 1\n'
        'vllm:num_requests_running{model_name="b"} 2\n'
        "vllm:num_requests_waiting 4\n"
    )
    assert scrape("vllm", text).running == 3
    assert scrape("vllm", text, "b").running == 2
    assert scrape("vllm", text, "b").waiting == 4
    assert scrape("vllm", text, "c").running is None


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "-Inf", "1e300"])
def test_nonsense_is_unknown_and_hurts_nothing_else(value: str) -> None:
    text = fixture("vllm-0.32-loaded")
    for head in (
        'running{engine="0",model_name="tiny"}',
        'usage_perc{engine="0",model_name="tiny"}',
    ):
        (line,) = [one for one in text.splitlines() if head in one]
        text = text.replace(line, f"{line.rsplit(' ', 1)[0]} {value}")
    seen = scrape("vllm", text)
    assert (seen.running, seen.kv_usage) == (None, None)
    assert (seen.waiting, seen.generation_tokens) == (56, 10961)
    assert seen.in_flight is None


@pytest.mark.parametrize("order", [("NaN", "4"), ("4", "NaN")])
def test_one_unknown_replica_makes_the_whole_unknown(order: tuple[str, str]) -> None:
    lines = [f'sglang:num_running_reqs{{tp_rank="{i}"}} {v}\n' for i, v in enumerate(order)]
    assert scrape("sglang", "".join(lines)).running is None


def test_buckets_that_do_not_add_up_are_left_out() -> None:
    name = "vllm:time_to_first_token_seconds"
    text = f'{name}_sum 5\n{name}_count 9\n{name}_bucket{{le="1"}} 7\n{name}_bucket{{le="2"}} 3\n'
    assert scrape("vllm", text).time_to_first_token == LatencyReading(5, 9)


def test_a_fresh_sglang_shows_no_counter_and_stands_at_zero() -> None:
    idle = 'sglang:num_running_reqs{tp_rank="0"} 0\nsglang:num_queue_reqs{tp_rank="0"} 0\n'
    assert scrape("sglang", idle).generation_tokens == 0
    # Busy without counters, or with some of them only: a name we do not know, so unknown.
    busy = idle.replace('running_reqs{tp_rank="0"} 0', 'running_reqs{tp_rank="0"} 1')
    assert scrape("sglang", busy).generation_tokens is None
    assert scrape("sglang", idle + "sglang:prompt_tokens_total 5\n").generation_tokens is None


def test_a_fresh_vllm_without_counters_is_unknown() -> None:
    seen = scrape("vllm", "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n")
    assert seen.generation_tokens is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html><body>vllm:num_requests_running</body></html>",
        "llamacpp:requests_processing 1\n",
        "vllm:num_requests_running\n",
        "vllm:num_requests_running seven\n",
        'vllm:num_requests_running{engine="0} 1\n',
        "vllm:num_requests_running{engine} 1\n",
    ],
)
def test_no_metrics_text_is_refused(text: str) -> None:
    with pytest.raises(MetricsTextError):
        scrape("vllm", text)


def test_a_flood_of_series_is_refused() -> None:
    line = 'vllm:num_requests_running{engine="%d"} 1\n'
    count = MAX_CHOSEN_CHARS // len(line) + 2
    with pytest.raises(MetricsTextError, match="characters"):
        scrape("vllm", "".join(line % i for i in range(count + 10_000)))


def test_a_timestamp_and_a_space_in_a_label_are_read() -> None:
    seen = scrape("vllm", 'vllm:num_requests_running{model_name="my model } x"} 4 1795202572567\n')
    assert seen.running == 4


@given(st.text(alphabet=st.sampled_from('vllm:num_requests_waiting{}="0, \n\\'), max_size=120))
def test_garbage_never_breaks_the_reader(text: str) -> None:
    try:
        seen = scrape("vllm", f"vllm:num_requests_running{text}")
    except MetricsTextError:
        return
    assert seen.running is None or seen.running >= 0
