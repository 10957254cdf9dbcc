"""Network domains from configuration and environment."""

from __future__ import annotations

import pytest

from heteroscale_agent.probes.topology import TopologyError, topology


def test_the_environment_overrides_level_by_level() -> None:
    seen = topology(
        {"s1": "minipod-0", "vdc": "east"}, {"HETEROSCALE_TOPOLOGY": "s2 = pod-1, s1=minipod-3"}
    )
    assert seen == {"s1": "minipod-3", "s2": "pod-1", "vdc": "east"}
    assert list(seen) == ["s1", "s2", "vdc"]


def test_an_empty_name_removes_a_level() -> None:
    assert topology({"s1": "minipod-0"}, {"HETEROSCALE_TOPOLOGY": "s1="}) == {}


def test_nothing_said_is_nothing_known() -> None:
    assert topology({}, {}) == {}


@pytest.mark.parametrize("text", ["s1", "rack=7", "s1:minipod", "s1=a\nb", f"s1={'x' * 300}"])
def test_a_malformed_variable_is_an_error(text: str) -> None:
    with pytest.raises(TopologyError, match="HETEROSCALE_TOPOLOGY"):
        topology({}, {"HETEROSCALE_TOPOLOGY": text})
