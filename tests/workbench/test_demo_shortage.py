"""The scene of a shortage: its verdict over what was seen, and the services it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from heteroscale.documents import read_documents, write_document
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_workbench.demo.recording import Note, Recording, Sample
from heteroscale_workbench.demo.shortage import (
    ESSENTIAL,
    GIVES,
    HIGH,
    LOW,
    complaints,
    document,
    gave,
    served_by,
    summary,
)


def played(*counts: tuple[int, int]) -> Recording:
    """Return a recording with these prefill and decode counts, one a second."""
    samples = [
        Sample(
            *(float(t), "", 100.0, 90.0, 3, 0.2, 0.05),
            prefill={"in_service": prefill},
            decode={"in_service": decode},
        )
        for t, (prefill, decode) in enumerate(counts)
    ]
    return Recording(0.5, samples, [], requests=50)


def good() -> tuple[Recording, Recording]:
    high, low = played((1, 2), (1, 2), (2, 4), (1, 2)), played((2, 4), (1, 2), (1, 2), (2, 4))
    low.notes.append(Note(1.0, "scale_in", f"Chat {GIVES} 3 GPUs: …", -1, -2, "dec-1"))
    return high, low


def test_what_it_should_show_passes() -> None:
    found = summary(*good())
    assert (found["ok"], found["complaints"]) == (True, [])
    assert found["services"][LOW]["given"] == 3


def fewer(_: Recording, low: Recording) -> None:
    low.samples[2] = replace(low.samples[2], decode={"in_service": 1})


def never_back(_: Recording, low: Recording) -> None:
    low.samples[-1] = low.samples[-2]


def never_grown(high: Recording, _: Recording) -> None:
    high.samples[2] = high.samples[1]


def not_given(_: Recording, low: Recording) -> None:
    low.notes[0] = replace(low.notes[0], reason="Demand is 20 % of supply.")


def failed(high: Recording, _: Recording) -> None:
    high.failures.append("cut: broke off")


def retried(_: Recording, low: Recording) -> None:
    low.retried = 2


def idle(high: Recording, _: Recording) -> None:
    high.requests = 0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (fewer, f"{LOW}: decode fell to 1, 2 are essential"),
        (never_back, f"{LOW}: prefill did not grow again"),
        (never_grown, f"{HIGH} never grew"),
        (not_given, f"{LOW} gave nothing"),
        (failed, f"{HIGH}: 1 requests failed; the first: cut: broke off"),
        (retried, f"{LOW}: 2 requests were retried"),
        (idle, f"{HIGH}: no request was sent"),
    ],
)
def test_what_it_does_not_show_is_complained_of(
    spoil: Callable[[Recording, Recording], None], says: str
) -> None:
    high, low = good()
    spoil(high, low)
    assert any(one.startswith(says) for one in complaints(high, low))
    assert summary(high, low)["ok"] is False


def test_the_act_is_told_only_once_the_lower_one_gave() -> None:
    high, low = good()
    high.samples.pop()
    assert served_by(high, low)
    low.notes.clear()
    assert not gave(low)
    assert not served_by(high, low)


def test_the_services_are_ones_that_a_user_could_write() -> None:
    for name, priority in ((HIGH, 10), (LOW, 0)):
        text = write_document(document(name, priority, "http://127.0.0.1:1"))
        spec = read_documents(text)[0].parse(ServiceDocument).spec
        assert spec.priority == priority
        assert {role: rules.essential for role, rules in spec.roles.items()} == ESSENTIAL
