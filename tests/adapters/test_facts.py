"""What a cluster's look becomes to the core: told as news once, unless it is an end that is doubted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Instance, Rank
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.adapters.facts import Facts
from heteroscale_scheduler_adapters.port import Phase, Running, Spot

ONE = Instance(
    "i-1", "chat", Role.DECODE, (Rank("hpc/n1", (0,), S.IN_SERVICE, 3),), S.IN_SERVICE, 3, 0.0, 0.0
)
OVER = Running("i-1", "chat", "decode", Phase.FAILED, (Spot("n1"),), message="job/7 is NODE_FAIL")


@pytest.mark.parametrize(("speaker", "news"), [("hpc.job-7-0", [True, True]), ("", [True, False])])
def test_an_end_is_told_until_it_is_believed_where_an_agent_in_the_job_may_be_heard(
    speaker: str, news: list[bool]
) -> None:
    state = State()
    spoken = replace(ONE.ranks[0], speaker=speaker)
    state.instances = {"i-1": replace(ONE, ranks=(spoken,))}
    facts = Facts("hpc/", lambda: state)

    def told() -> list[tuple[S, bool]]:
        return [(fact.state, new) for _, fact, new in facts.of(OVER, {}, 10.0)]

    assert [told(), told()] == [[(S.FAILED, new)] for new in news]
    ended = replace(spoken, state=S.FAILED)
    state.instances = {"i-1": replace(ONE, ranks=(ended,), state=S.FAILED)}
    assert told() == ([] if speaker else [(S.FAILED, False)])
