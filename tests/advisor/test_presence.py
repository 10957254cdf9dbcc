"""A hole is unknown, but where an instance was provably away; who is scraped in vain is not gone."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale_advisor.presence import Scraped, there

NAN = np.nan
STEP = 60.0


def stood_there(known: str, up: str, stood: list[float], anyone: str = "") -> str:
    """Return a letter a slot: `x` there, `.` not; ``up`` is 1, 0, or `-` where nobody tried."""
    told = Scraped(
        up=np.array([NAN if sign == "-" else float(sign) for sign in up]),
        anyone=np.array([sign == "x" for sign in anyone or "x" * len(known)]),
        stood=np.array(stood),
    )
    found = there(np.array([sign == "x" for sign in known]), told, STEP)
    return "".join("x" if one else "." for one in found)


BACK_NEW = [50.0, 60, 70, NAN, NAN, NAN, NAN, 5, 9, 12]
BACK_OLD = [50.0, 60, 70, NAN, NAN, NAN, NAN, 95, 99, 112]


def test_who_left_and_came_back_new_was_away() -> None:
    # Its start is tried in vain, and is no work either.
    assert stood_there("xxx....xxx", "111--00111", BACK_NEW) == "xxx....xxx"


def test_the_part_before_it_left_is_unknown() -> None:
    # Scraped in vain while it may have worked: the first of these slots is a hole.
    assert stood_there("xxx....xxx", "1110--0111", BACK_NEW) == "xxxx...xxx"


@pytest.mark.parametrize(
    ("up", "stood", "anyone"),
    [
        ("1110000111", BACK_NEW, ""),  # tried all the time: a crash, or pages that time out
        ("111----111", BACK_OLD, ""),  # it went on: whoever scraped it was away
        ("111----111", BACK_NEW, "xxx....xxx"),  # nobody scraped anyone
        ("----------", BACK_NEW, ".........."),  # a server that keeps no `up`
        ("111----111", [NAN] * 10, ""),  # no counter
    ],
)
def test_all_other_holes_are_unknown(up: str, stood: list[float], anyone: str) -> None:
    assert stood_there("xxx....xxx", up, stood, anyone) == "x" * 10


def test_who_is_scraped_in_vain_for_long_has_not_gone() -> None:
    nothing = [NAN] * 10
    assert stood_there("xxx.......", "1110000000", nothing) == "x" * 10
    assert stood_there("xxx.......", "111000----", nothing) == "xxx......."
    assert stood_there("xxx.......", "111-------", nothing) == "xxx......."
    # A long start is none of it.
    assert stood_there(".......xxx", "0000000111", nothing) == ".......xxx"


def test_who_was_never_seen_was_never_there() -> None:
    assert stood_there("..........", "0000000000", [NAN] * 10) == ".........."
