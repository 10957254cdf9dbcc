"""Which of several served models an instance is: from the document to the page that is read."""

from __future__ import annotations

import pytest

from heteroscale.words import Role
from heteroscale_agent.adoption import static_record
from heteroscale_agent.allowlist import RefusedError, facts_of
from heteroscale_agent.config import StaticEngine, Template
from heteroscale_agent.model import Launch
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import read

PAGE = """
vllm:num_requests_running{engine="0",model_name="chat"} 2
vllm:num_requests_running{engine="1",model_name="chat"} 3
vllm:num_requests_running{engine="0",model_name="code"} 7
"""


def launch(**parameters: str) -> Launch:
    return Launch("chat", Role.DECODE, "t", (0,), parameters=parameters)


def test_an_engine_that_serves_two_models_is_two_instances() -> None:
    engines = [
        StaticEngine.model_validate(
            {
                "instanceId": f"box-{model}",
                "service": model,
                "role": "decode",
                "endpoint": "http://127.0.0.1:8000",
                "modelName": model,
            }
        )
        for model in ("chat", "code")
    ]
    facts = [static_record(engine, 0.0).facts for engine in engines]
    seen = [read(MAPPINGS[one.engine], PAGE, one.model_name).running for one in facts]
    assert seen == [5, 7]


def test_a_template_names_its_model_by_a_parameter() -> None:
    template = Template(command=("x",), role=Role.DECODE, model_name="{model}")
    assert facts_of(template, launch(model="code")).model_name == "code"
    with pytest.raises(RefusedError, match="model"):
        facts_of(template, launch())
    assert not facts_of(Template(command=("x",), role=Role.DECODE), launch()).model_name


def test_where_an_engine_shows_its_metrics_depends_on_its_kind() -> None:
    def path(**fields: str) -> str:
        return Template.model_validate({"command": ["x"], "role": "decode", **fields}).metrics_path

    assert path() == path(engine="tgi") == "/metrics"
    assert path(engine="tensorrt-llm") == "/prometheus/metrics"
    assert path(engine="tensorrt-llm", metricsPath="/metrics") == "/metrics"
