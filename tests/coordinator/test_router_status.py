"""What an operator is shown of a service's routers."""

from __future__ import annotations

from heteroscale.convert import seconds
from heteroscale_coordinator.core.events import AgentConnected, ReportReceived
from heteroscale_coordinator.edge import operator_wire
from tests.core.test_router_tracks import Turns, sample


def test_a_service_shows_its_routers_and_who_tells_of_them() -> None:
    turns = Turns()
    past = (sample(turns.now - 40, url="http://old:1", name="old"),)
    turns.take(AgentConnected("a", 1, "host", router_history=past))
    turns.take(ReportReceived("a", 1, 1, routers=(sample(turns.now - 2),)))
    service = turns.state.services["chat"]
    front, old = operator_wire.service_message(service, turns.state, None).routers
    assert (front.name, front.url, front.agent_id) == ("front", "http://10.0.0.9:29000", "a")
    assert (front.quality, seconds(front.age)) == ("ok", 2.0)
    assert (old.name, old.quality, seconds(old.age)) == ("old", "stale", 40.0)
