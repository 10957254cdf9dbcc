"""What is kept of a router: one agent's word at a time, nothing counted twice, nothing for ever."""

from __future__ import annotations

from typing import Any

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.evaluate import view_of
from heteroscale_coordinator.core.events import AgentConnected, ApplyService, ReportReceived
from heteroscale_coordinator.core.model import LatencySample, RouterSample
from heteroscale_coordinator.core.routers import FORGET, MOST, RouterTrack, RouterTracks, add
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from heteroscale_coordinator.core.track import SLOTS
from tests.core.policy.build import spec_of

URL = "http://10.0.0.9:29000"


def sample(at: float, count: float = 0.0, **changes: Any) -> RouterSample:
    told = RouterSample(
        "front", "chat", URL, ScrapeQuality.OK, at, ttft=LatencySample(count / 2, count)
    )
    return told._replace(**changes)


def fed(*samples: tuple[str, RouterSample], spacing: float = 5.0) -> RouterTrack:
    tracks: RouterTracks = {}
    for agent_id, one in samples:
        add(tracks, agent_id, one, one.at, spacing)
    return tracks[URL]


def counts(track: RouterTrack) -> list[float]:
    return [one.ttft.observations for one in track.samples if one.ttft]


def test_two_agents_that_watch_one_router_count_it_once() -> None:
    # The second began to watch later, so it has counted less.
    told = [
        ("a", sample(0, 100)),
        ("b", sample(1, 10)),
        ("a", sample(5, 150)),
        ("b", sample(6, 60)),
    ]
    assert counts(fed(*told)) == [100, 150]


def test_another_agent_is_believed_once_the_first_is_silent() -> None:
    track = fed(("a", sample(0, 100)), ("b", sample(14, 10)), ("b", sample(16, 12)))
    assert (track.agent_id, counts(track)) == ("b", [12])


def test_another_agent_that_cannot_reach_it_changes_nothing() -> None:
    missing = sample(60, quality=ScrapeQuality.MISSING)
    track = fed(("a", sample(0, 100)), ("b", missing))
    assert (track.agent_id, track.quality, counts(track)) == ("a", ScrapeQuality.OK, [100])


def test_a_counter_that_falls_cuts_off_what_came_before() -> None:
    assert counts(fed(("a", sample(0, 100)), ("a", sample(5, 40)), ("a", sample(10, 50)))) == [
        40,
        50,
    ]
    rejected = [sample(0, requests_rejected=5.0), sample(5, requests_rejected=1.0)]
    assert len(fed(*(("a", one) for one in rejected)).samples) == 1


def test_bad_scrapes_and_old_ones_are_no_samples() -> None:
    stale = sample(10, 120, quality=ScrapeQuality.STALE)
    track = fed(("a", sample(5, 100)), ("a", stale), ("a", sample(3, 90)))
    assert counts(track) == [100]
    assert not track.fresh(30, 15)


def test_samples_stand_apart_and_are_few() -> None:
    track = fed(*(("a", sample(at / 10, at)) for at in range(10_000)), spacing=2.0)
    assert len(track.samples) == SLOTS
    assert track.samples[-1].at - track.samples[0].at >= (SLOTS - 2) * 2.0


def test_routers_that_nobody_names_are_forgotten_and_a_flood_is_cut() -> None:
    tracks: RouterTracks = {}
    for number in range(MOST + 20):
        add(tracks, "a", sample(0, url=f"http://r:{number}"), 0.0, 5.0)
    assert len(tracks) == MOST
    add(tracks, "a", sample(FORGET + 1, url="http://new:1"), FORGET + 1, 5.0)
    assert list(tracks) == ["http://new:1"]


# ---- in the turn -------------------------------------------------------------------------------


class Turns:
    """A state with one service, and turns over it."""

    def __init__(self) -> None:
        self.state, self.now, self._ids = State(Rules()), 1000.0, 0
        self.state.begin(self.now)
        self.take(ApplyService("r", "chat", spec_of(), ""))

    def take(self, *events: Any) -> None:
        changes = step(self.state, list(events), self.now, self.mint)
        self.state.apply(changes)

    def mint(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}{self._ids}"

    @property
    def kept(self) -> list[float]:
        return counts(self.state.routers["chat"][URL])


def test_hellos_refill_and_reports_go_on() -> None:
    turns = Turns()
    past = tuple(sample(turns.now - 60 + 10 * n, 10.0 * n) for n in range(5))
    turns.take(AgentConnected("a", 1, "host", router_history=past))
    turns.take(ReportReceived("a", 1, 1, routers=(sample(turns.now, 70),)))
    assert turns.kept == [0, 10, 20, 30, 40, 70]


def test_a_new_process_of_the_agent_counts_from_zero() -> None:
    turns = Turns()
    turns.take(AgentConnected("a", 1, "host", router_history=(sample(turns.now - 5, 500),)))
    turns.take(AgentConnected("a", 2, "host", router_history=(sample(turns.now, 3),)))
    assert turns.kept == [3]


def test_routers_of_a_service_that_is_not_there_are_not_kept() -> None:
    turns = Turns()
    stranger = sample(turns.now, service="other")
    turns.take(AgentConnected("a", 1, "host", router_history=(stranger,)))
    assert not turns.state.routers.get("other")


def test_a_router_that_nobody_watches_any_more_is_seen_no_more() -> None:
    turns = Turns()
    turns.take(AgentConnected("a", 1, "host", router_history=(sample(turns.now, 5),)))
    for later, seen in ((FORGET, [URL]), (FORGET + 1, [])):
        draft = Draft(turns.state, turns.now + later, turns.mint)
        view = view_of(draft, turns.state.services["chat"])
        assert [track.url for track in view.routers] == seen
