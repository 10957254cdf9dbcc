"""Zones on their way into the core: refused at apply, read for the turn, read again in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from heteroscale.documents import DocumentError
from heteroscale_coordinator.core.events import ApplyService, Tick
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.apply import parse_services
from heteroscale_coordinator.zones import RENEW_BEFORE, YEAR, ZonedStep, resolve

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
SERVICE = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: p, max: 8}
    decode: {template: d, max: 16}
  policy:
    schedule:
      timeZone: Europe/Berlin
      windows:
        - {name: day, start: "0 8 * * *", duration: 2h, floor: {decode: 4}}
"""


def mint(kind: str) -> str:
    return kind


def applied(text: str = SERVICE) -> ApplyService:
    one = parse_services(text, "s.yaml")[0]
    return ApplyService("r", one.name, one.spec, one.document)


def test_an_unknown_zone_is_refused_at_its_line_with_near_ones() -> None:
    with pytest.raises(DocumentError) as error:
        parse_services(SERVICE.replace("Berlin", "Berln"), "s.yaml")
    assert str(error.value).startswith(
        "s.yaml:10: spec.policy.schedule.timeZone: no time zone 'Europe/Berln' of the IANA database; "
        "did you mean Europe/Berlin or "
    )


def test_a_window_that_the_bounds_refuse_is_named_with_its_place() -> None:
    with pytest.raises(
        DocumentError, match=r"policy\.schedule\.windows\.0 \(day\): floor decode 17"
    ):
        parse_services(SERVICE.replace("decode: 4", "decode: 17"), "s.yaml")


def test_a_cron_time_that_is_none_is_refused_at_its_line() -> None:
    with pytest.raises(DocumentError, match=r"s.yaml:12: .*windows\.0\.start: .*bad hour"):
        parse_services(SERVICE.replace("0 8 *", "0 88 *"), "s.yaml")


def test_the_canonical_document_is_read_back_alike() -> None:
    one = parse_services(SERVICE, "s.yaml")[0]
    assert parse_services(one.document, "again")[0] == one


def test_a_turn_that_applies_a_service_knows_its_zone() -> None:
    state, turn = State(), ZonedStep()
    state.apply(turn(state, [applied(), Tick()], NOW, mint))
    assert state.zones == {"Europe/Berlin": resolve("Europe/Berlin", NOW)}


def test_a_service_from_the_store_has_its_zone_at_the_first_turn() -> None:
    before, turn = State(), ZonedStep()
    before.apply(turn(before, [applied()], NOW, mint))
    state = State(services=before.services)
    ZonedStep()(state, [Tick()], NOW, mint)
    assert set(state.zones) == {"Europe/Berlin"}


def test_a_table_is_read_again_before_it_ends() -> None:
    state, turn = State(), ZonedStep()
    state.apply(turn(state, [applied()], NOW, mint))
    first = state.zones["Europe/Berlin"]
    turn(state, [Tick()], NOW + YEAR, mint)
    assert state.zones["Europe/Berlin"] is first
    late = first.until - RENEW_BEFORE + 60
    turn(state, [Tick()], late, mint)
    assert state.zones["Europe/Berlin"].until > first.until


def test_a_table_holds_years_ahead() -> None:
    assert resolve("Europe/Berlin", NOW).until - NOW > 3 * YEAR
