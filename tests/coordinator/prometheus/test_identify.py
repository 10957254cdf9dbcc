"""By labels: whose series, which instances, what role and GPU; and what is said where none tells."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale.words import Role
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.identify import choose, identify, presence_match
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec

RUNNING = "vllm:num_requests_running"


def spec(**more: Any) -> PrometheusSpec:
    return PrometheusSpec.model_validate({"url": "http://prometheus:9090", **more})


def series(name: str = RUNNING, **labels: str) -> dict[str, str]:
    return {"__name__": name, **labels}


PAIR = (
    series(model_name="chat", job="engines", pod="chat-prefill-0", instance="10.0.0.1:8000"),
    series(model_name="chat", job="engines", pod="chat-decode-0", instance="10.0.0.2:8000"),
)


@pytest.mark.parametrize(
    ("service", "select"),
    [("chat", 'model_name=~"chat|"'), ("engines", 'job="engines"')],
)
def test_a_service_is_found_by_a_label_with_its_name(service: str, select: str) -> None:
    assert choose(service, spec(), PAIR) == select
    assert len(identify(spec(), select, PAIR).instances) == 2


def test_matchers_that_are_given_win() -> None:
    assert choose("chat", spec(select='{pod=~"x.*"}'), PAIR) == 'pod=~"x.*"'


def test_a_name_that_no_label_has_is_refused_with_what_there_is() -> None:
    with pytest.raises(PrometheusError) as error:
        choose("caht", spec(), PAIR)
    assert "model_name: chat; job: engines" in str(error.value)
    assert "--select" in str(error.value)


def test_roles_are_what_labels_say() -> None:
    found = identify(spec(), 'job="engines"', PAIR)
    assert found.by == "pod"
    assert [(one.name, one.role, one.role_from) for one in found.instances] == [
        ("chat-decode-0", Role.DECODE, "pod"),
        ("chat-prefill-0", Role.PREFILL, "pod"),
    ]


@pytest.mark.parametrize(
    ("labels", "role"),
    [
        ({"engine_type": "decode"}, Role.DECODE),
        ({"llm_d_ai_role": "prefill"}, Role.PREFILL),
        ({"job": "x", "dynamo_component": "PrefillWorker"}, None),
        ({"job": "x", "my_part": "the-prefiller"}, Role.PREFILL),
        ({"job": "prefill-and-decode"}, None),
        ({"job": "undecoded"}, None),
    ],
)
def test_a_role_is_a_word_in_a_label(labels: dict[str, str], role: Role | None) -> None:
    (one,) = identify(spec(), "", [series(instance="a:1", **labels)]).instances
    assert one.role is role


def test_matchers_of_roles_decide_alone() -> None:
    roles = {"prefill": 'pod=~".*-0"', "decode": 'pod=~".*-1"'}
    seen = [series(pod="a-0"), series(pod="decode-1"), series(pod="decode-2")]
    found = identify(spec(roles=roles), "", seen).instances
    assert [one.role for one in found] == [Role.PREFILL, Role.DECODE, None]


def test_roles_that_overlap_or_match_nothing_are_refused() -> None:
    both = {"prefill": 'pod=~"a.*"', "decode": 'pod=~".*"'}
    with pytest.raises(PrometheusError, match="several roles"):
        identify(spec(roles=both), "", [series(pod="a")])
    with pytest.raises(PrometheusError, match="no instance matches decode"):
        identify(spec(roles={"decode": 'pod="z"'}), "", [series(pod="a")])


def test_engines_gpus_and_the_label_that_tells_instances_apart() -> None:
    seen = [
        series(instance="a:1", gpu_product="NVIDIA-H100"),
        series("sglang:num_running_reqs", instance="b:1"),
    ]
    first, second = identify(spec(), "", seen).instances
    assert (first.engine, first.gpu_type) == ("vllm", "NVIDIA-H100")
    assert (second.engine, second.gpu_type) == ("sglang", "")
    with pytest.raises(PrometheusError, match="--instance-label"):
        identify(spec(instance_label="pod"), "", seen)
    with pytest.raises(PrometheusError, match="no engine's series match"):
        identify(spec(), 'job="x"', seen)


def test_all_engines_are_looked_for_in_one_request() -> None:
    match = presence_match('job="a"')
    assert match.endswith(',job="a"}')
    for name in ("vllm:num_requests_running", "sglang:num_running_reqs", "trtllm_num_requests"):
        assert name in match
