"""The demo's own parts: traffic in operational time, the verdict, the report, the profile."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from itertools import islice, pairwise

import pytest
from rich.console import Console

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import PolicySpec, ServiceDocument
from heteroscale_simulator.traffic.traces import Arrival
from heteroscale_workbench.demo import report, view
from heteroscale_workbench.demo.profile import DemoProfile
from heteroscale_workbench.demo.recording import Note, Recording, Sample
from heteroscale_workbench.demo.traffic import MAX_OUTPUT, Pacer, generated, replayed


def sample(t: float, prefill: int, decode: int, **more: object) -> Sample:
    plain = Sample(
        *(t, "rise", 100.0, 90.0, 3, 0.2, 0.05),
        prefill={"in_service": prefill},
        decode={"in_service": decode},
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def good() -> Recording:
    """A run that shows everything."""
    counts = [(1, 2), (2, 4), (3, 6), (2, 4), (3, 6), (1, 2)]
    samples = [sample(float(i), p, d) for i, (p, d) in enumerate(counts)]
    notes = [Note(1.0, "scale_out", "more <b>load</b>", 1, 2, "dec-1")]
    return Recording(0.5, samples, notes, requests=50, withdrawn=3, reinstated=3)


class TestTraffic:
    def test_generated_requests_repeat_for_a_seed_and_keep_their_means(self) -> None:
        first, again = (list(islice(generated(256, 60, seed=3), 4000)) for _ in range(2))
        assert first == again
        assert sum(a.output for a in first) / 4000 == pytest.approx(60, rel=0.1)
        assert sum(a.gap for a in first) / 4000 == pytest.approx(1.0, rel=0.1)

    def test_a_trace_keeps_its_pattern_and_is_scaled_to_the_means(self) -> None:
        rows = [Arrival(0, 1000, 100), Arrival(1, 3000, 300), Arrival(5, 2000, 200)]
        played = list(islice(replayed(rows, 200, 20), 6))
        assert [a.prompt for a in played] == [100, 300, 200, 100, 300, 200]
        assert [a.output for a in played[:3]] == [10, 30, 20]
        assert played[2].gap / played[1].gap == pytest.approx(4.0)

    def test_the_largest_are_capped(self) -> None:
        rows = [Arrival(0, 1, 1), *(Arrival(i, 1, 1) for i in range(1, 99)), Arrival(99, 1, 10**6)]
        assert max(a.output for a in islice(replayed(rows, 200, 60), 100)) == MAX_OUTPUT

    @pytest.mark.parametrize("rows", [[], [Arrival(0, 1, 1)], [Arrival(3, 1, 1)] * 4])
    def test_a_trace_without_time_is_refused(self, rows: list[Arrival]) -> None:
        with pytest.raises(ValueError, match="at least two requests at different times"):
            next(replayed(rows, 200, 60))

    def test_the_pacer_asks_for_the_level(self) -> None:
        pacer = Pacer(generated(256, 60, seed=1), 60)
        tokens = sum(a.output for _ in range(4000) for a in pacer.advance(0.05, 600))
        assert tokens / 200 == pytest.approx(600, rel=0.1)
        assert pacer.advance(10.0, 0.0) == []


class TestVerdict:
    def test_a_good_run_has_no_complaint(self) -> None:
        summary = good().summary()
        assert (summary["ok"], summary["max_prefill"], summary["max_decode"]) == (True, 3, 6)
        assert summary["ratio_error_mean"] == 0.0

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"failures": ["cut: broke off"]}, "1 requests failed"),
            ({"retried": 2}, "2 requests were retried"),
            ({"unseen": 7}, "retries were not watched"),
            ({"withdrawn": 0}, "nothing was withdrawn"),
            ({"reinstated": 0}, "nothing was reinstated"),
            ({"requests": 0}, "no request was sent"),
            ({"samples": [sample(0, 1, 2), sample(1, 1, 2)]}, "prefill never grew"),
            ({"samples": [sample(0, 1, 2), sample(1, 2, 4)]}, "decode never shrank"),
            ({"samples": []}, "prefill was never in service"),
        ],
    )
    def test_what_is_missing_is_said(self, change: dict[str, object], says: str) -> None:
        recording = replace(good(), **change)  # type: ignore[arg-type]
        assert any(says in complaint for complaint in recording.complaints())
        assert not recording.summary()["ok"]

    def test_the_ratio_counts_only_while_decode_serves(self) -> None:
        recording = Recording(0.5, [sample(0, 1, 0), sample(1, 2, 2)])
        assert recording.ratio_error() == pytest.approx(1.0)


class Tags(HTMLParser):
    """Counts elements, and checks that they close in order."""

    VOID = frozenset({"meta", "line", "circle", "rect", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


class TestReport:
    def test_the_page_is_whole_and_escapes_what_it_quotes(self) -> None:
        text = report.page(good())
        tags = Tags()
        tags.feed(text)
        assert not tags.open
        assert tags.seen["svg"] == 5
        assert "&lt;b&gt;load" in text
        assert "<script" not in text
        assert "http" not in text

    def test_an_unknown_value_leaves_a_gap(self) -> None:
        samples = [sample(float(i), 1, 2, ttft=None if i == 2 else 0.1) for i in range(5)]
        line = report.Line("TTFT", "red", lambda s: s.ttft)
        drawn = report.lines(samples, [], [line])
        assert drawn.count("<polyline") == 2

    def test_a_run_without_a_sample_still_has_a_page(self) -> None:
        assert "never in service" in report.page(Recording(0.5))


class TestView:
    def test_the_live_picture_names_what_goes_on(self) -> None:
        console = Console(width=120, record=True, file=None, quiet=False)
        with console.capture() as shown:
            console.print(view.live(good()))
        text = shown.get()
        for word in ("prefill", "decode", "ratio", "scale out", "50 requests"):
            assert word in text

    def test_a_sparkline_has_one_bar_a_value(self) -> None:
        bars = view.sparkline([0.0, 1.0, 2.0, 4.0])
        assert len(bars) == 4
        assert all(a <= b for a, b in pairwise(bars))


class TestProfile:
    def test_the_service_is_valid_and_its_durations_are_divided(self) -> None:
        plain = DemoProfile(divisor=20).service(["http://127.0.0.1:1"])
        document = ServiceDocument.model_validate(plain)
        assert document.spec.policy.cooldown_in == PolicySpec().cooldown_in / 20
        assert document.spec.roles[Role.DECODE].target_of("H20") == 140.0

    def test_without_waiting_nothing_before_term_takes_time(self) -> None:
        plain = DemoProfile(wait_for_requests=False).service(["http://127.0.0.1:1"])
        spec = ServiceDocument.model_validate(plain).spec
        waits = (spec.policy.observation, spec.drain.settle, spec.drain.force_after)
        assert waits == (0.0, 0.0, 0.0)
