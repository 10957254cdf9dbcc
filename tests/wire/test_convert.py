"""Every word has its number on the wire and every number its word; what is newer is None."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from hypothesis import given
from hypothesis import strategies as st

from heteroscale import convert, words
from heteroscale.documents.fields import MAX_SECONDS
from heteroscale.v1 import agent_pb2, types_pb2

ENUMS: list[tuple[type[StrEnum], object]] = [
    (words.Role, types_pb2.Role),
    (words.InstanceState, types_pb2.InstanceState),
    (words.WithdrawReason, types_pb2.WithdrawReason),
    (words.GateState, types_pb2.GateState),
    (words.ScrapeQuality, agent_pb2.ScrapeQuality),
    (words.GpuHealth, agent_pb2.GpuHealth),
    (words.NicDistance, agent_pb2.NicDistance),
    (words.Outcome, agent_pb2.CommandResult.Outcome),
]


def values(wrapper: object) -> list[int]:
    assert isinstance(wrapper, EnumTypeWrapper)
    return list(wrapper.values())


@pytest.mark.parametrize(("kind", "wrapper"), ENUMS, ids=lambda x: getattr(x, "__name__", ""))
def test_words_and_numbers_are_the_same_set(kind: type[StrEnum], wrapper: object) -> None:
    numbers = [convert.to_wire(word) for word in kind]
    assert sorted([0, *numbers]) == sorted(values(wrapper))
    assert [convert.from_wire(kind, number) for number in numbers] == list(kind)


@pytest.mark.parametrize(("kind", "wrapper"), ENUMS, ids=lambda x: getattr(x, "__name__", ""))
@given(number=st.integers(-(2**31), 2**31 - 1))
def test_unspecified_and_newer_numbers_are_none(
    kind: type[StrEnum], wrapper: object, number: int
) -> None:
    word = convert.from_wire(kind, number)
    assert (word is None) == (number not in values(wrapper) or number == 0)


def test_every_word_of_the_house_is_covered() -> None:
    own = {
        thing
        for thing in vars(words).values()
        if isinstance(thing, type) and issubclass(thing, StrEnum) and thing is not StrEnum
    }
    assert own == {kind for kind, _ in ENUMS}


def test_no_word_is_unspecified() -> None:
    assert convert.to_wire(None) == 0


def test_words_of_two_kinds_with_one_text_do_not_mix() -> None:
    assert str(words.Outcome.UNKNOWN) == str(words.InstanceState.UNKNOWN)
    assert convert.to_wire(words.Outcome.UNKNOWN) == agent_pb2.CommandResult.OUTCOME_UNKNOWN
    assert convert.to_wire(words.InstanceState.UNKNOWN) == types_pb2.INSTANCE_STATE_UNKNOWN


@given(st.floats(0, MAX_SECONDS))
def test_every_duration_a_person_may_write_fits_the_wire(seconds: float) -> None:
    sent = convert.duration(seconds)
    assert convert.seconds(type(sent).FromString(sent.SerializeToString())) == pytest.approx(
        seconds, abs=1e-6
    )


@given(st.floats(0, 4e9))
def test_moments_survive_the_wire_to_the_microsecond(moment: float) -> None:
    assert convert.unix_seconds(convert.timestamp(moment)) == pytest.approx(moment, abs=1e-6)


def test_the_latency_grid_is_the_one_the_wire_describes() -> None:
    proto = (Path(convert.__file__).parent / "v1" / "agent.proto").read_text()
    comment = proto.partition("Upper bounds in milliseconds:")[2].partition(".\n")[0]
    assert tuple(map(int, re.findall(r"\d+", comment))) == words.LATENCY_BOUNDS_MS
    assert list(words.LATENCY_BOUNDS_MS) == sorted(set(words.LATENCY_BOUNDS_MS))
