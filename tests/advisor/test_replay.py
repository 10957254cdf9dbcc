"""The coordinator's own policy over a history: what it saves, and how that is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from heteroscale.documents import read_documents
from heteroscale.words import Role
from heteroscale_advisor.ask import Asked
from heteroscale_advisor.command import service_document
from heteroscale_advisor.findings import Findings, assumptions, next_steps
from heteroscale_advisor.history import History
from heteroscale_advisor.page import page
from heteroscale_advisor.policy import gpus_of, pace
from heteroscale_advisor.replay import Replay, replay
from heteroscale_advisor.text import as_json, headline, lines
from heteroscale_advisor.wishes import Wishes
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_coordinator.edge.prometheus.identify import Found
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec
from tests.advisor.day import START, Day, swing

LONG = 3000.0
DAY = Day(swing(3.0, 24.0, LONG))
WISHES = Wishes(
    service="chat",
    prometheus=PrometheusSpec(url="http://prometheus:9090"),
    since=LONG,
    end=START + LONG,
    step=60.0,
    ttft=1.0,
    tbt=0.05,
    gpus={Role.PREFILL: 2, Role.DECODE: 4},
    startup=30.0,
)


def played(history: History, wishes: Wishes = WISHES) -> Replay:
    return replay(history, wishes, lambda _done, _all: None)


def told(history: History, of: Replay, wishes: Wishes = WISHES) -> Findings:
    queries = {"vllm": {"running": "sum by (pod) (x{$select})"}}
    found = Found('model_name=~"chat|"', "pod", DAY.seen())
    return Findings(wishes, Asked(found, queries, 60.0), history, of)


@pytest.fixture(scope="module")
def history() -> History:
    return DAY.history(LONG)


@pytest.fixture(scope="module")
def found(history: History) -> Replay:
    return played(history)


def test_a_fleet_that_stands_at_its_peak_is_smaller_in_the_trough(
    history: History, found: Replay
) -> None:
    hours = float(history.known.sum()) / 60
    assert found.held.gpu_hours == pytest.approx(hours * (4 * 2 + 8 * 4))
    assert found.saved is not None
    assert found.saved > 0.03
    assert found.joint.kept.both is not None
    assert found.joint.kept.both > 0.95
    trough = slice(44, 50)
    assert found.joint.counts[Role.DECODE][trough].max() < 8
    assert {one.action for one in found.decisions} >= {"scale_in", "scale_out"}


def test_the_model_agrees_with_what_was_measured(found: Replay) -> None:
    assert found.held.kept.both == found.held_by_model.both == 1.0


def test_a_hole_is_left_out_on_both_sides_and_decides_nothing(history: History) -> None:
    blind = replace(DAY, unseen=lambda _pod, t: 1800 <= t < 2400)
    dark = blind.history(LONG)
    of = played(dark)
    assert of.held.gpu_hours == pytest.approx(float(dark.known.sum()) / 60 * 40)
    assert dark.known.sum() < history.known.sum()
    # A scale-in wants to see; what is unknown is not idle.
    shrunk = [d for d in of.decisions if d.action == "scale_in" and 1860 <= d.at <= 2400]
    assert shrunk == []

    first = next(iter(next_steps(told(dark, of))))
    assert "Not always scraped: chat-decode-0 (10 min)" in first


def test_a_recording_that_began_late_is_said(history: History, found: Replay) -> None:
    assert "begins" not in " ".join(next_steps(told(history, found)))
    young = replace(DAY, unseen=lambda _pod, t: t < 1200).history(LONG)
    steps = list(next_steps(told(young, found)))
    assert steps[0].startswith("All that is known begins 20 min into the time")
    assert not any("Mend the holes" in one for one in steps)
    old = replace(DAY, unseen=lambda _pod, t: t >= 2400).history(LONG)
    assert next(next_steps(told(old, found))).startswith("All that is known ends 10 min before")


def test_gpus_that_are_told_are_counted_unless_others_are_given(history: History) -> None:
    pasts = tuple(replace(p, seen=replace(p.seen, gpus=4)) for p in history.instances)
    of_four = replace(history, instances=pasts)
    bare = replace(WISHES, gpus={})
    assert gpus_of(history, bare, Role.DECODE) == 1
    assert gpus_of(of_four, bare, Role.DECODE) == 4
    assert gpus_of(of_four, WISHES, Role.PREFILL) == 2


def test_a_file_is_the_policy(history: History) -> None:
    document = read_documents(SERVICE)[0].parse(ServiceDocument)
    of = played(history, replace(WISHES, spec=document.spec, ttft=None, tbt=None))
    assert of.spec.roles[Role.DECODE].target == 300.0
    assert of.spec.roles[Role.DECODE].min == 6
    assert of.models[Role.DECODE].latencies["tbt"].promise.seconds == 0.2
    assert of.joint.counts[Role.DECODE].min() >= 6 - 1e-9


def test_a_file_of_a_service_that_others_scale_is_played_as_if_it_scaled_itself(
    history: History,
) -> None:
    external = SERVICE.replace("template: p, ", "").replace("template: d, ", "")
    external += "  actuation: {by: external}\n  signals: {source: prometheus, server: main}\n"
    specs = [read_documents(text)[0].parse(ServiceDocument).spec for text in (SERVICE, external)]
    own, others = (played(history, replace(WISHES, spec=spec)) for spec in specs)
    assert [one.action for one in own.decisions] == [one.action for one in others.decisions]
    assert own.joint.gpu_hours == pytest.approx(others.joint.gpu_hours)


def test_where_every_instance_does_both_it_is_advised_on_too() -> None:
    day = Day(swing(2.0, 20.0, LONG), counts={Role.AGGREGATED: 6})
    wishes = replace(WISHES, gpus={Role.AGGREGATED: 8}, aggregated=True)
    past = day.history(LONG)
    of = played(past, wishes)
    assert of.held.gpu_hours == pytest.approx(float(past.known.sum()) / 60 * 6 * 8)
    assert of.held.kept.both == of.held_by_model.both == 1.0
    assert of.saved is not None
    assert of.saved > 0.03
    assert of.joint.kept.both is not None
    assert of.joint.kept.both > 0.9
    assert {one.action for one in of.decisions} >= {"scale_in", "scale_out"}

    findings = told(past, of, wishes)
    text = "\n".join(lines(findings))
    assert "P:D RATIO" not in text
    assert "6× H800" in text
    assert "Prefill and decode share these instances" in text
    whole = "".join(page(findings))
    assert "P:D ratio" not in whole
    assert "TTFT" in whole
    assert "TBT" in whole
    (document,) = read_documents(service_document(findings))
    assert set(document.parse(ServiceDocument).spec.roles) == {Role.AGGREGATED}


def test_the_name_of_a_model_is_made_one_of_a_service(history: History) -> None:
    wishes = replace(WISHES, service="meta-llama/Llama-3.1-8B")
    of = played(history, wishes)
    text = service_document(told(history, of, wishes))
    assert "name: meta-llama-llama-3.1-8b\n" in text
    (document,) = read_documents(text)
    live = document.parse(ServiceDocument).spec
    assert live.advisory
    # Nothing of ours starts engines, and their signals are found as they were found here.
    assert live.actuation.by == "external"
    assert (live.signals.source, live.signals.select) == ("prometheus", 'model_name=~"chat|"')
    assert live.roles == of.spec.roles


def test_bounds_of_a_ratio_are_never_inside_what_was_seen() -> None:
    day = replace(DAY, counts={Role.PREFILL: 3, Role.DECODE: 7})
    of = played(day.history(1200.0))
    assert of.spec.ratio.min <= 3 / 7 <= of.spec.ratio.max
    assert of.decisions[:1] == () or of.decisions[0].action != "scale_out"


def test_a_long_time_is_looked_at_less_often(found: Replay) -> None:
    days = (0.25, 1, 2, 7)
    looks = [pace(found.spec, replace(WISHES, since=86_400 * n)) for n in days]
    assert looks == [5.0, 10.0, 15.0, 15.0]


def test_too_little_is_said_in_words() -> None:
    with pytest.raises(ValueError, match="did no work"):
        played(Day(lambda _t: 0.0).history(LONG))
    never = replace(DAY, unseen=lambda pod, t: pod == "chat-decode-0" and 0 < t < LONG - 60)
    with pytest.raises(ValueError, match="--since"):
        played(never.history(LONG))


def test_the_text_names_what_a_reader_wants(history: History, found: Replay) -> None:
    text = "\n".join(lines(told(history, found)))
    for part in ("WHAT IS THERE", "P:D RATIO", "HELD, AND", "WHAT TO DO NEXT", "8× H20", "4× L20"):
        assert part in text
    assert "fewer GPU-hours" in headline(told(history, found))


def test_json_holds_the_figures_and_the_queries(history: History, found: Replay) -> None:
    body = json.loads(as_json(told(history, found)))
    assert body["saved"] == found.saved
    assert body["joint"]["gpu_hours"] == found.joint.gpu_hours
    assert body["queries"]["vllm"]["running"] == 'sum by (pod) (x{model_name=~"chat|"})'
    assert body["roles"][0]["role"] == "prefill"
    assert len(body["decisions"]) == len(found.decisions)


def test_the_page_is_whole_and_quotes_what_strangers_wrote(history: History, found: Replay) -> None:
    hostile = replace(WISHES, service="<script>alert(1)</script>")
    text = "".join(page(told(history, found, hostile)))
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert "<script" not in text
    assert text.count("<svg") >= 8
    assert "http" not in text.replace(hostile.prometheus.url, "").partition("<body>")[2]


def test_assumptions_say_what_was_not_given(history: History, found: Replay) -> None:
    given = " ".join(assumptions(told(history, found)))
    assert "No SLO" not in given
    assert "one GPU" not in given
    bare = replace(WISHES, ttft=None, tbt=None, gpus={})
    of = told(history, played(history, bare), bare)
    plain = " ".join(assumptions(of))
    assert "No SLO of TTFT was given" in plain
    assert "counted as one GPU" in plain
    assert next(iter(next_steps(of))).startswith("State what users were promised")


def test_what_to_do_next_follows_from_what_was_found(history: History, found: Replay) -> None:
    good = " ".join(next_steps(told(history, found)))
    assert "--write service.yaml" in good
    poor = replace(found, joint=replace(found.joint, kept=replace(found.joint.kept, both=0.5)))
    assert "Savings here cost latency" in " ".join(next_steps(told(history, poor)))
    none = replace(found, joint=replace(found.joint, gpu_hours=found.held.gpu_hours))
    assert "Little is to be saved" in " ".join(next_steps(told(history, none)))
    wrong = replace(found, held_by_model=replace(found.held_by_model, both=0.2))
    assert "Do not trust" in " ".join(next_steps(told(history, wrong)))
    tilted = replace(found, had=np.full(len(found.had), 3.0))
    assert "has more prefill than the work asked for" in " ".join(next_steps(told(history, tilted)))


def test_the_service_that_was_played_can_be_read_again(found: Replay) -> None:
    again = ServiceSpec.model_validate(found.spec.document())
    assert again == found.spec


SERVICE = """
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: p, gpuTypes: [L20], min: 2, max: 20, target: 4000}
    decode: {template: d, gpuTypes: [H20], min: 6, max: 40, target: 300}
  ratio: {min: 0.2, max: 1}
  slo: {ttft: 2s, tbt: 200ms}
"""
