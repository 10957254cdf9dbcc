"""The fleet's pace: what contradicts itself is refused in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.rules import Rules


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"silent_after": 5.0}, "silentAfter must be longer than reportInterval"),
        ({"report_interval": 20.0}, "silentAfter must be longer than reportInterval"),
        ({"lost_after": 10.0}, "lostAfter is shorter than silentAfter"),
    ],
)
def test_paces_that_contradict_each_other(rules: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rules(**rules)


def test_lost_at_once_after_silent_is_a_choice() -> None:
    assert Rules(silent_after=15.0, lost_after=15.0).lost_after == 15.0
