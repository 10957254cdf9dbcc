from __future__ import annotations

import copy
from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.settings import read_settings
from heteroscale_scheduler_adapters.port import SettingsError
from tests.kubernetes.adapter.things import LWS, MANIFEST, template

POD = {"spec": {"containers": [{"name": "engine", "image": "engine:1"}]}}

EXCLUSIVE = "leaderworkerset.sigs.k8s.io/exclusive-topology"


def _complaint(**more: Any) -> str:
    one = {"name": "d", "role": "decode", "gpus": 1, **more}
    with pytest.raises(SettingsError) as caught:
        read_settings("east", {"templates": [one]})
    return str(caught.value)


def _changed(manifest: dict[str, Any], **spec: Any) -> dict[str, Any]:
    changed = copy.deepcopy(manifest)
    changed["spec"] |= spec
    return changed


def test_a_template_is_told_by_the_words_of_the_port() -> None:
    told = template().told()
    assert (told.name, told.role, told.gpus, told.engine) == ("decode-h20", "decode", 1, "vllm")
    assert [template(pod=POD).kind, template().kind, template(object=LWS).kind] == [
        "Pod", "Deployment", "LeaderWorkerSet",
    ]  # fmt: skip
    scale = {"kind": "StatefulSet", "name": "chat", "service": "chat"}
    assert template(scale=scale).kind == "StatefulSet"


def test_where_pods_are_made_is_known_of_known_kinds_and_asked_of_others() -> None:
    assert template().paths() == ("spec.template",)
    assert template(object=LWS).paths() == ("spec.leaderWorkerTemplate.workerTemplate",)
    said = _complaint(object={"apiVersion": "x/v1", "kind": "Fleet", "spec": {}})
    assert "templates[0]" in said
    assert "podTemplates" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "exactly one of object, scale and pod"),
        ({"object": MANIFEST, "pod": POD}, "not object and pod"),
        ({"pod": {"spec": {}}}, "containers is empty"),
        ({"object": {"kind": "Deployment"}}, "object.apiVersion is missing"),
        (
            {
                "object": _changed(
                    MANIFEST | {"kind": "StatefulSet"}, podManagementPolicy="OrderedReady"
                )
            },
            "write Parallel",
        ),
        ({"object": _changed(LWS, startupPolicy="LeaderReady")}, "write LeaderCreated"),
        (
            {"object": LWS | {"metadata": {"annotations": {EXCLUSIVE: "rack"}}}},
            "leave it out: placement chooses the domain",
        ),
        ({"object": MANIFEST, "gate": {"labels": {"app": "chat"}}}, "gate's label app"),
    ],
)
def test_what_cannot_be_meant_is_said_with_what_would_be_right(
    more: dict[str, Any], words: str
) -> None:
    said = _complaint(**more)
    assert words in said
    assert "adapters[east].options.templates[0]" in said


def test_two_templates_of_one_name_are_refused() -> None:
    one = {"name": "d", "role": "decode", "gpus": 1, "pod": POD}
    with pytest.raises(SettingsError, match="d is named twice"):
        read_settings("east", {"templates": [one, one]})


def test_a_vllm_that_would_cut_requests_off_is_told() -> None:
    assert "--shutdown-timeout" in template().cuts_off()
    assert not template(engine="sglang").cuts_off()
    engine = {"name": "engine", "image": "vllm:1"}
    waits = {**engine, "args": ["--shutdown-timeout", "600"]}
    hooked = {**engine, "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}
    assert template(pod={"spec": {"containers": [engine]}}).cuts_off()
    for one in (waits, hooked):
        assert not template(pod={"spec": {"containers": [one]}}).cuts_off()
