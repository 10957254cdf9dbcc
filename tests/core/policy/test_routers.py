"""Latency and refusals at the routers: what users feel, and what is done when they do not tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import Action, LatencySample, RouterSample, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.routers import RouterTrack
from tests.core.policy.build import NOW, D, P, decoding, many, prefilling, spec_of, view_of

LOW, EASY = decoding(300), prefilling(2000)


@dataclass(frozen=True)
class Felt:
    """What one router sees each second; None is what it does not tell."""

    ttft: float | None = 0.3
    requests: float = 10.0
    rejected: float | None = 0.0
    failed: float | None = 0.0
    surge: float = 0.0
    """Requests turned away each second in the last half minute, besides."""


def heard(
    name: str, felt: Felt, *, heard_for: float = 120.0, silent_for: float = 0.0
) -> RouterTrack:
    track = RouterTrack(f"http://{name}:1")
    track.name = name
    end = NOW - silent_for
    for at in range(int(end - heard_for), int(end) + 1, 5):
        track.add("a", _sample(track, float(at), at - (end - heard_for), felt), at, 15.0)
    return track


def _sample(track: RouterTrack, at: float, seconds: float, felt: Felt) -> RouterSample:
    n = felt.requests * seconds
    surge = felt.surge * max(0.0, at - (NOW - 30))
    return RouterSample(
        track.name,
        "chat",
        track.url,
        ScrapeQuality.OK,
        at,
        requests_finished=n,
        requests_failed=None if felt.failed is None else felt.failed * seconds,
        requests_rejected=None if felt.rejected is None else felt.rejected * seconds + surge,
        running=4.0,
        ttft=None if felt.ttft is None else LatencySample(felt.ttft * n, n),
    )


def never(name: str) -> RouterTrack:
    track = RouterTrack(f"http://{name}:1")
    track.name = name
    return track


def decided(*routers: RouterTrack, prefill: Any = EASY, decode: Any = LOW, n: int = 4) -> Verdict:
    members = (*many(2, P, prefill), *many(n, D, decode))
    return decide(view_of(spec_of(), *members, routers=routers))


def signal(found: Verdict, name: str) -> tuple[float | None, str, float]:
    (one,) = [value for value in found.signals if value.name == name]
    return one.value, one.quality, one.coverage


# ---- latency -----------------------------------------------------------------------------------


def test_without_routers_nothing_is_said_of_them() -> None:
    found = decided()
    assert found.inputs["ttft"] == "ttft 100 ms of 1000 ms"
    assert not [key for key in found.inputs if "router" in key]
    assert not [one for one in found.signals if "router" in one.name]


def test_ttft_is_what_the_routers_see() -> None:
    found = decided(heard("front", Felt(ttft=0.3)))
    assert found.inputs["ttft"] == "ttft 300 ms of 1000 ms at the routers"
    assert found.inputs["routers"] == "front ok"
    value, *heard_how = signal(found, "router_ttft")
    assert value == pytest.approx(0.3)
    assert heard_how == ["ok", 1.0]
    assert signal(found, "router_finished")[0] == pytest.approx(10.0)


def test_several_routers_add_up_by_requests() -> None:
    slow, quick = Felt(ttft=0.9, requests=30.0), Felt(ttft=0.1, requests=10.0)
    found = decided(heard("a", slow), heard("b", quick))
    assert found.inputs["ttft"] == "ttft 700 ms of 1000 ms at the routers"
    assert signal(found, "router_running")[0] == 8


def test_a_breach_that_only_routers_feel_is_guarded() -> None:
    found = decided(heard("front", Felt(ttft=1.5)), decode=decoding(950), prefill=prefilling(4000))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "guard")
    assert "ttft 1500 ms of 1000 ms at the routers" in found.reason


@pytest.mark.parametrize(
    ("routers", "why"),
    [
        ([heard("a", Felt()), heard("b", Felt(), silent_for=40)], "router b is not heard"),
        ([heard("a", Felt()), never("b")], "router b was never heard"),
        ([heard("a", Felt()), heard("b", Felt(ttft=None))], "router b does not tell it"),
        ([heard("a", Felt(requests=0.0))], "the routers saw none"),
    ],
)
def test_part_of_the_routers_is_unknown_and_engines_are_read(
    routers: Sequence[RouterTrack], why: str
) -> None:
    found = decided(*routers)
    assert found.inputs["ttft"] == f"ttft 100 ms of 1000 ms at prefill ({why})"


def test_quality_tells_how_many_are_heard() -> None:
    found = decided(heard("a", Felt()), heard("b", Felt(), silent_for=40))
    assert found.inputs["routers"] == "a ok, b stale"
    assert signal(found, "router_ttft") == (None, "stale", 0.5)


# ---- consent -----------------------------------------------------------------------------------


def test_calm_routers_consent_to_scale_in() -> None:
    found = decided(heard("front", Felt()))
    assert found.action is Action.SCALE_IN
    assert found.inputs["consent.rejected.routers"] == "yes: 0 → 0 rejected"


def test_rejections_that_rise_refuse() -> None:
    found = decided(heard("front", Felt(surge=1.0)))
    assert (found.action, found.bound_by) == (Action.HOLD, "consent")
    assert "rejected.routers (0 → 30 rejected)" in found.reason


def test_failures_that_are_no_more_than_before_do_not() -> None:
    assert decided(heard("front", Felt(failed=0.2))).action is Action.SCALE_IN


def test_a_router_that_is_not_heard_any_more_refuses() -> None:
    found = decided(heard("a", Felt()), heard("b", Felt(), silent_for=40))
    assert (found.action, found.bound_by) == (Action.HOLD, "consent")
    assert "routers (router b is not heard any more)" in found.reason


def test_a_router_heard_for_too_short_a_time_refuses() -> None:
    found = decided(heard("a", Felt(), heard_for=10))
    assert "rejected.routers (heard too short a time)" in found.reason


@pytest.mark.parametrize("routers", [[never("a")], [heard("a", Felt(rejected=None, failed=None))]])
def test_what_a_router_never_tells_neither_consents_nor_refuses(
    routers: Sequence[RouterTrack],
) -> None:
    found = decided(*routers)
    assert found.action is Action.SCALE_IN
    assert found.inputs["consent.rejected.routers"].startswith("yes: router a ")
