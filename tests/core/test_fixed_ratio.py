"""A fixed ratio whose other role is the one that fills up: nothing is withdrawn that comes back."""

from __future__ import annotations

import pytest

from tests.core.complaints.test_complaints import Judge

STORY = """
agents 8 8
apply roles.prefill.target={target} roles.prefill.max=20 roles.decode.max=40
traffic arrivals={arrivals}
run 900
mark
run 1500
expect reinstate = 0
expect scale_out = 0
expect scale_in <= 1
"""


@pytest.mark.parametrize(("target", "arrivals"), [(5000, 20), (4000, 20), (2500, 12)])
def test_decode_that_prefill_needs_beside_it_is_not_withdrawn(target: int, arrivals: int) -> None:
    """Decode alone would do with half: the prefill that left with it, 1 to 2, would be missed."""
    Judge().play(STORY.format(target=target, arrivals=arrivals))
