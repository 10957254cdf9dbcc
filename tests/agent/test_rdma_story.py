"""A port's whole life, from the kernel's files to a report: whatever happens, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_agent.model import NicCounters
from heteroscale_agent.nics import NicSampler
from heteroscale_agent.probes.rdma import RdmaProbe
from heteroscale_agent.probes.rdma.probe import SLOW_EVERY
from heteroscale_workbench.rdma_tree import FAMILIES, RdmaPort

WRAP = 2**32
OCTETS_PER_S = 50 * 10**9
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["run", "run", "blink", "down", "up", "slow", "miss"]),
        st.integers(0, OCTETS_PER_S // 8 // 4).map(lambda words: 4 * words),
        st.integers(0, 1_000_000),
    ),
    max_size=40,
)


class Story:
    """A RoCE port of mlx5 whose queue counters are about to wrap, read once a second."""

    def __init__(self, root: Path, family: str) -> None:
        self.port = RdmaPort(root / "infiniband", family=FAMILIES[family]).create()
        self.queue = sorted(self.port.family.wraps_32 & {"packet_seq_err", "rnr_nak_retry_err"})
        self.port.set(**dict.fromkeys(self.queue, WRAP - 1000))
        self.now, self.octets, self.resent, self.flaps, self.up = 0.0, 0, 0, 0, True
        self._probe = RdmaProbe(self.port.root, clock=lambda: self.now)
        self._sampler = NicSampler()
        self.look()

    def look(self) -> NicCounters:
        (reading,) = self._probe.read().readings
        return self._sampler.fold(reading)

    def step(self, what: str, octets: int, events: int) -> None:
        self.now += 1
        if what in ("blink", "down") and self.up:
            self.flaps += 1
            self.port.blink() if what == "blink" else self.port.down()
            self.up = what == "blink"
        elif what in ("up", "slow"):
            self.port.up(None if what == "up" else 200)
            self.up = True
        if self.up:
            self.port.transfer(sent=octets)
            self.octets += octets
            self.port.add(**dict.fromkeys(self.queue, events))
            self.resent += events * len(self.queue)
        if what != "miss":
            self.look()

    def close(self) -> None:
        self._probe.close()


@pytest.mark.parametrize("family", ["mlx5-infiniband", "mlx5-roce"])
@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_a_report_says_all_that_happened(family: str, steps: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as folder:
        story = Story(Path(folder), family)
        for step in steps:
            story.step(*step)
        for _ in range(SLOW_EVERY):
            story.step("look", 0, 0)
        seen = story.look()
        story.close()
    assert (seen.sent_octets, seen.retransmissions) == (story.octets, story.resent)
    assert seen.link_flaps == story.flaps
    assert seen.active is story.up
