"""What a person writes for a Kubernetes cluster: defaults, and complaints that name field and fix."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.settings import TOPOLOGY, read_settings
from heteroscale_scheduler_adapters.port import SettingsError


def test_nothing_needs_to_be_said() -> None:
    settings = read_settings("east", {})
    assert settings.levels() == TOPOLOGY
    assert settings.requests.page_size == 500
    assert settings.gpus.resources["nvidia.com/gpu"] == "nvidia"


def test_a_levels_keys_are_replaced_and_the_others_stay() -> None:
    levels = read_settings("east", {"topology": {"s1": ["example.com/rack"], "vdc": []}}).levels()
    assert levels["s1"] == ("example.com/rack",)
    assert levels["vdc"] == ()
    assert levels["s2"] == TOPOLOGY["s2"]


ADOPTED = {"namespace": "llm", "name": "chat-decode", "service": "chat", "role": "decode"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kubecofig": "x"}, "adapters[east].options.kubecofig: there is no such field"),
        ({"kubeconfig": " "}, "adapters[east].options.kubeconfig: an empty name of a file"),
        (
            {"requests": {"timeout": "10 parsecs"}},
            "options.requests.timeout: '10 parsecs' is no dur",
        ),
        ({"requests": {"timeout": 0}}, "options.requests.timeout: Input should be greater than 0"),
        ({"requests": {"stall": "2d"}}, "options.requests.stall: '2d' is no duration"),
        (
            {"requests": {"stall": "25h"}},
            "options.requests.stall: a duration is between 0s and 24h",
        ),
        ({"namespace": "LLM"}, "options.namespace: String should match pattern"),
        ({"topology": {"rack": ["x"]}}, "options.topology.rack"),
        ({"adopt": [{"name": "chat"}]}, "options.adopt[0].namespace: this field is needed"),
        ({"adopt": [ADOPTED, ADOPTED]}, "adopt: Deployment/llm/chat-decode is named twice"),
    ],
)
def test_a_complaint_names_the_field(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings("east", options)
    assert said in str(caught.value)


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings("east", {"a": 1, "requests": {"burst": 0}})
    assert len(str(caught.value).splitlines()) == 2
