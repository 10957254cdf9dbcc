"""Hostlists: membership against plain expansion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_agent.probes.hostlist import contains, size


@pytest.mark.parametrize(
    ("hostlist", "inside", "outside"),
    [
        ("node[1-4]", ["node1", "node4"], ["node0", "node5", "node", "node01", "xnode1"]),
        ("gpu[01-04,7],login1", ["gpu01", "gpu7", "login1"], ["gpu1", "gpu07", "login", "gpu"]),
        ("r[1-2]n[08-10]-ib", ["r1n08-ib", "r2n10-ib"], ["r3n08-ib", "r1n8-ib", "r1n08"]),
        ("a,b", ["a", "b"], ["", "ab", ","]),
        ("", [], ["", "a"]),
        ("n[9-11]", ["n9", "n10", "n11"], ["n09", "n12"]),
        ("n[x-y]", [], ["nx", "n1"]),
        ("n[5-3]", [], ["n4"]),
        ("n[1-2", [], ["n1"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_membership(hostlist: str, inside: list[str], outside: list[str]) -> None:
    assert [name for name in inside if not contains(hostlist, name)] == []
    assert [name for name in outside if contains(hostlist, name)] == []


@given(st.integers(0, 1200), st.integers(0, 300), st.integers(1, 4), st.integers(0, 1600))
def test_a_range_is_what_counting_says(first: int, more: int, width: int, asked: int) -> None:
    text = f"n[{str(first).zfill(width)}-{first + more}]"
    # As Slurm does: every number is padded to the width of the first.
    padded = len(str(first).zfill(width))
    names = {f"n{str(number).zfill(padded)}" for number in range(first, first + more + 1)}
    assert size(text) == len(names)
    for name in (f"n{asked}", f"n{asked:02d}", f"n{asked:04d}"):
        assert contains(text, name) == (name in names)


@given(st.text(alphabet="n0123456789[],-x", max_size=60), st.text(alphabet="n019x", max_size=6))
def test_garbage_is_survived(text: str, name: str) -> None:
    assert contains(text, name) in {True, False}
    assert size(text) >= 0
