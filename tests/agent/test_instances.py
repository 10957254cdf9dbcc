"""The life of an instance: its table of changes, its record, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from pydantic import ValidationError

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_agent.edges import EDGES, ENDED
from heteroscale_agent.hands.gates.port import View
from heteroscale_agent.instances import (
    IllegalChangeError,
    Instance,
    Record,
    dump_record,
    load_record,
    moved,
)
from heteroscale_agent.leases import complaint, renewable, until, why_back
from tests.agent.body_twins import drain, launch

_S = InstanceState


def record(state: InstanceState = _S.LAUNCHING, **changes: object) -> Record:
    base = Record("i1", launch(), state, 0.0, 0.0, ports=(1, 2), startup_time=1.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_every_edge_says_when_it_happens_and_all_others_raise_with_history() -> None:
    for before, after in product(_S, _S):
        if (before, after) in EDGES:
            assert EDGES[before, after]
            assert moved(record(before), after, 1.0, "why").state is after
        else:
            with pytest.raises(IllegalChangeError, match=f"from {before} to {after}"):
                moved(record(before), after, 1.0, "why")


def test_nothing_leaves_an_end_and_every_living_state_can_fail() -> None:
    assert not [edge for edge in EDGES if edge[0] in ENDED]
    living = {before for before, _ in EDGES}
    assert all((before, _S.FAILED) in EDGES for before in living)


def test_generation_grows_and_history_tells_the_story() -> None:
    first = moved(record(), _S.WARMING, 1.0, "ready")
    second = moved(first, _S.IN_SERVICE, 2.0, "in")
    assert (first.generation, second.generation) == (2, 3)
    with pytest.raises(IllegalChangeError, match=r"launching → warming: ready.*in_service: in"):
        moved(second, _S.LAUNCHING, 3.0, "no")


def test_why_it_is_out_goes_with_the_state() -> None:
    out = moved(
        record(_S.IN_SERVICE),
        _S.WITHDRAWN,
        1.0,
        "x",
        withdraw_reason=WithdrawReason.SOFT_SCALE_IN,
        lease=5.0,
        cause="c1",
    )
    back = moved(out, _S.IN_SERVICE, 2.0, "y")
    assert (back.withdraw_reason, back.lease, back.cause) == (None, None, "")


def test_a_record_survives_json() -> None:
    whole = record(
        _S.DRAINING,
        drain=drain(),
        withdraw_reason=WithdrawReason.SICK,
        owed=("c1", "c2"),
        exit_code=-9,
        history=("a", "b"),
    )
    assert load_record(dump_record(whole)) == whole


def test_gate_state_is_confirmed_only_by_a_view_of_the_same_wish() -> None:
    instance = Instance(record(_S.IN_SERVICE))
    seen = [instance.gate_state]
    instance.view, instance.view_wanted = View({"a": True, "b": False}), True
    seen.append(instance.gate_state)
    instance.view = View({"a": True, "b": True})
    seen.append(instance.gate_state)
    assert seen == [GateState.OPENING, GateState.OPENING, GateState.OPEN]
    instance.record = moved(instance.record, _S.DRAINING, 1.0, "drain")
    instance.view = View({"a": False, "b": False})
    seen = [instance.gate_state]
    instance.view_wanted = False
    seen.append(instance.gate_state)
    instance.view = View({"a": False, "b": None})
    seen.append(instance.gate_state)
    assert seen == [GateState.CLOSING, GateState.CLOSED, GateState.CLOSING]


def test_before_it_was_ready_no_gate_can_be_open() -> None:
    assert Instance(record(startup_time=None)).gate_state is GateState.CLOSED


@pytest.mark.parametrize("reason", list(WithdrawReason))
def test_the_table_of_silence(reason: WithdrawReason) -> None:
    leased = reason in (WithdrawReason.SOFT_SCALE_IN, WithdrawReason.RATIO_HOLD)
    assert bool(complaint(reason, None)) is leased
    soft = reason is WithdrawReason.SOFT_SCALE_IN
    hold = reason is WithdrawReason.RATIO_HOLD
    out = record(
        _S.WITHDRAWN,
        withdraw_reason=reason,
        lease=10.0 if soft else None,
        hold_until_at=10.0 if hold else None,
    )
    lease = until(out, 0.0)
    assert why_back(out, lease, 9.9) == ""
    assert bool(why_back(out, lease, 10.0)) is leased
    assert renewable(out) is soft


def test_a_drain_is_leased_until_term() -> None:
    draining = record(_S.DRAINING, lease=10.0, drain=drain())
    assert why_back(draining, until(draining, 0.0), 10.0)
    sent = replace(draining, terminating=True)
    assert until(sent, 0.0) is None
    assert why_back(sent, 0.0, 99.0) == ""


def test_a_member_of_a_gate_carries_its_second_port() -> None:
    member = record(launch=launch(role=Role.PREFILL)).member
    assert (member.role, member.bootstrap_port) == (Role.PREFILL, 2)


def test_records_of_other_releases_are_read_or_refused_whole() -> None:
    """A field that a later one adds is passed over; a state that it invents is not guessed at."""
    kept = record(_S.IN_SERVICE)
    told = dump_record(kept)
    newer = {**told, "mood": "good", "launch": {**told["launch"], "colour": "red"}}
    assert load_record(newer) == kept
    older = {name: value for name, value in told.items() if name not in {"gate_out", "recovered"}}
    assert load_record(older) == kept
    with pytest.raises(ValidationError):
        load_record({**told, "state": "hibernating"})
