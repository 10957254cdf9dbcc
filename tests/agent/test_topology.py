"""Network domains: who names them, who wins, and how that is said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_agent.probes.topology import Answer, Found, TopologyError, explain, settle
from heteroscale_agent.probes.topology.names import parse_text
from heteroscale_agent.probes.topology.sources import Source, fixed
from heteroscale_agent.probes.topology.watch import REFRESH, RETRY, TopologyWatch


def place(configured: Mapping[str, str], variable: str) -> Found:
    return settle(fixed(configured, {"HETEROSCALE_TOPOLOGY": variable}))


def test_the_environment_overrides_level_by_level() -> None:
    found = place({"s1": "minipod-0", "vdc": "east"}, "s2 = pod-1, s1=minipod-3")
    assert found.levels == {"s1": "minipod-3", "s2": "pod-1", "vdc": "east"}
    assert list(found.levels) == ["s1", "s2", "vdc"]
    assert found.sources == {
        "s1": "environment; overrules: configuration says minipod-0",
        "s2": "environment",
        "vdc": "configuration",
    }


def test_an_empty_name_removes_a_level() -> None:
    found = place({"s1": "minipod-0"}, "s1=")
    assert found.levels == {}
    assert found.removed == {"s1": "environment; overrules: configuration says minipod-0"}


def test_nothing_said_is_nothing_known() -> None:
    assert settle(fixed({}, {})) == Found()


@pytest.mark.parametrize("text", ["s1", "rack=7", "s1:minipod", "s1=a\nb", f"s1={'x' * 300}"])
def test_a_malformed_variable_is_an_error(text: str) -> None:
    with pytest.raises(TopologyError, match="HETEROSCALE_TOPOLOGY"):
        fixed({}, {"HETEROSCALE_TOPOLOGY": text})


def test_later_sources_fill_what_earlier_ones_leave_open() -> None:
    found = settle(
        [
            Answer("a", {"s1": "x"}),
            Answer("b", {"s1": "y", "s2": "p"}, {"s2": "switch p"}),
            Answer("c", {"s1": "x", "s2": "q"}, problem="late"),
        ]
    )
    assert found.levels == {"s1": "x", "s2": "p"}
    assert found.sources == {
        "s1": "a; overrules: b says y",
        "s2": "switch p; overrules: c says q",
    }
    assert found.problems == ("c: late",)


@pytest.mark.parametrize(
    "text",
    [
        "s1=leaf-3\ns2 = pod:0\n",
        "# written by hand\n  s1=leaf-3, s2=pod:0",
        "s1: leaf-3\ns2: pod:0\n",
        '{"s1": "leaf-3", "s2": "pod:0"}',
    ],
)
def test_lines_and_maps_say_the_same(text: str) -> None:
    assert parse_text(text) == {"s1": "leaf-3", "s2": "pod:0"}


def test_names_stay_text() -> None:
    assert parse_text("s0: no\ns1: 007\n") == {"s0": "no", "s1": "007"}
    assert parse_text("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "rack: 7",
        "rack=7",
        "s1: [a, b]",
        "s1: {a: b}",
        "- s1",
        "just words",
        "s1: 'unfinished",
        "s1=a\nthat was it",
        f"s1={'x' * 254}",
        "[" * 100_000,
        "s1: 'a\x01b'",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(TopologyError):
        parse_text(text)


# ---- in plain words --------------------------------------------------------------------------


def test_what_is_missing_is_explained() -> None:
    lines = explain(place({"s2": "pod-1"}, "s0="))
    assert len(lines) == len(TOPOLOGY_LEVELS)
    assert "s0: none, says environment" in lines[0]
    assert "no" in lines[1]
    assert "placement treats the s2 domain as the nearest" in lines[1]
    assert lines[2] == "s2 = pod-1 (configuration)"


def test_a_host_that_nobody_places_is_told_so() -> None:
    lines = explain(Found(problems=("slurm: down",)))
    assert "nothing says which hosts are near" in lines[1]
    assert "topologyFrom" in lines[-2]
    assert lines[-1] == "trouble: slurm: down"


def test_a_gap_above_a_known_level_is_explained() -> None:
    assert "bound to that level" in explain(place({"s1": "m"}, ""))[2]


# ---- asked again and again -------------------------------------------------------------------


class Told:
    """A source whose answers a test hands out, and pauses that end when the test says so."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.changes: asyncio.Queue[Found] = asyncio.Queue()
        self.closed = False
        source = Source("told", self.answers.get, self.close)
        fixed = [Answer("configuration", {"s2": "pod"})]
        self.watch = TopologyWatch(fixed, [source], self.changes.put_nowait, self.sleep)

    def close(self) -> None:
        self.closed = True

    async def sleep(self, pause: float) -> None:
        self.pauses.put_nowait(pause)
        await self.go_on.wait()
        self.go_on.clear()

    async def pause(self) -> float:
        async with asyncio.timeout(20):
            return await self.pauses.get()


async def test_a_late_source_keeps_nobody_waiting_and_is_heard_when_it_speaks() -> None:
    told = Told()
    found = await told.watch.start(0.01)
    assert found.levels == {"s2": "pod"}
    assert found.problems == ("told: no answer yet",)
    told.answers.put_nowait(Answer("told", {"s1": "leaf"}))
    async with asyncio.timeout(20):
        assert (await told.changes.get()).levels == {"s1": "leaf", "s2": "pod"}
    assert REFRESH * 0.7 < await told.pause() < REFRESH * 1.3
    await told.watch.close()
    assert told.closed


async def test_a_failing_source_is_asked_again_soon_and_keeps_what_it_said() -> None:
    told = Told()
    told.answers.put_nowait(Answer("told", {"s1": "leaf"}))
    assert (await told.watch.start(20)).levels["s1"] == "leaf"
    await told.pause()
    told.answers.put_nowait(Answer("told", problem="controller down"))
    told.go_on.set()
    assert RETRY * 0.7 < await told.pause() < RETRY * 1.3
    assert told.watch.found.levels["s1"] == "leaf"
    assert list(told.watch.found.problems) == ["told: controller down"]
    told.answers.put_nowait(Answer("told", {"s1": "leaf-2"}))
    told.go_on.set()
    await told.pause()
    assert told.watch.found.levels["s1"] == "leaf-2"
    assert list(told.watch.found.problems) == []
    seen = [told.changes.get_nowait().levels["s1"] for _ in range(told.changes.qsize())]
    assert seen == ["leaf", "leaf-2"], "a failure is no change"
    await told.watch.close()
