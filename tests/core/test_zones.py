"""Clock changes: one rule for the skipped hour and for the repeated one, in zones that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from heteroscale_coordinator.core.policy.timetable import Span, next_span, span_at, written
from heteroscale_coordinator.core.spec.schedule import WindowSpec
from heteroscale_coordinator.core.zones import Zone, instant, wall
from heteroscale_coordinator.zones import UnknownZoneError, resolve

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
LORD_HOWE = "Australia/Lord_Howe"
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", LORD_HOWE, "UTC"]


def zone(name: str) -> Zone:
    return resolve(name, NOW)


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(start: str, **changes: object) -> WindowSpec:
    ends = {} if {"end", "duration"} & changes.keys() else {"duration": "1h"}
    fields = {"name": "w", "start": start, "floor": {"decode": 1}, **ends, **changes}
    return WindowSpec.model_validate(fields)


@pytest.mark.parametrize("name", ZONES)
def test_the_table_reads_as_the_database_does(name: str) -> None:
    """Every seventh hour of three years, and each second beside a change."""
    table, info = zone(name), ZoneInfo(name)
    moments = [NOW - 365 * 86_400 + 7 * 3600 * n for n in range(3 * 365 * 24 // 7)]
    moments += [since + beside for since, _ in table.offsets[1:] for beside in (-1, 0, 1)]
    for at in moments:
        there = datetime.fromtimestamp(at, info).replace(tzinfo=None)
        assert wall(table, at) == there


@pytest.mark.parametrize(
    ("name", "reading", "moment"),
    [
        # An ordinary day, winter and summer.
        ("Europe/Berlin", "2026-01-15 08:00", "2026-01-15 07:00"),
        ("Europe/Berlin", "2026-07-15 08:00", "2026-07-15 06:00"),
        # 02:00 to 03:00 is skipped on 29 March: any reading of it is the jump, at 01:00 UTC.
        ("Europe/Berlin", "2026-03-29 01:59", "2026-03-29 00:59"),
        ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 03:01", "2026-03-29 01:01"),
        # 02:00 to 03:00 comes twice on 25 October: the first time counts.
        ("Europe/Berlin", "2026-10-25 01:59", "2026-10-24 23:59"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30"),
        ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25 02:00"),
        ("America/New_York", "2026-03-08 02:30", "2026-03-08 07:00"),
        ("America/New_York", "2026-11-01 01:30", "2026-11-01 05:30"),
        ("America/New_York", "2026-11-01 02:00", "2026-11-01 07:00"),
        # A quarter of an hour off, and no clock changes.
        ("Asia/Kathmandu", "2026-03-29 02:30", "2026-03-28 20:45"),
        # Lord Howe changes by half an hour: 02:00 to 02:30 on 4 October, 01:30 to 02:00 on 5 April.
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:30"),
        ("Australia/Lord_Howe", "2026-10-04 02:30", "2026-10-03 15:30"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04 14:45"),
        ("Australia/Lord_Howe", "2026-04-05 02:00", "2026-04-04 15:30"),
    ],
)
def test_a_reading_is_the_first_moment_that_shows_it_or_is_past_it(
    name: str, reading: str, moment: str
) -> None:
    assert instant(zone(name), datetime.fromisoformat(reading)) == utc(moment)


@pytest.mark.parametrize(
    ("name", "start", "lasts", "starts", "ends"),
    [
        # In the skipped hour: begins at the jump, and has its whole length.
        ("Europe/Berlin", "30 2 * * *", {"duration": "1h"}, "2026-03-29 01:00", "2026-03-29 02:00"),
        # … or up to the wall clock's end.
        ("Europe/Berlin", "30 2 * * *", {"end": "0 6 * * *"}, "2026-03-29 01:00", "2026-03-29 04:00"),
        # In the repeated hour: once.
        ("Europe/Berlin", "30 2 25 10 *", {"duration": "15m"}, "2026-10-25 00:30", "2026-10-25 00:45"),
        # Over the change: an end follows the clock, a duration follows time.
        ("Europe/Berlin", "0 22 24 10 *", {"end": "0 6 * * *"}, "2026-10-24 20:00", "2026-10-25 05:00"),
        ("Europe/Berlin", "0 22 24 10 *", {"duration": "8h"}, "2026-10-24 20:00", "2026-10-25 04:00"),
        # An end in the repeated hour is at its first time, one in the skipped hour at the jump.
        ("Europe/Berlin", "0 22 24 10 *", {"end": "30 2 * * *"}, "2026-10-24 20:00", "2026-10-25 00:30"),
        ("Europe/Berlin", "0 22 28 3 *", {"end": "30 2 * * *"}, "2026-03-28 21:00", "2026-03-29 01:00"),
        ("America/New_York", "30 2 8 3 *", {"duration": "1h"}, "2026-03-08 07:00", "2026-03-08 08:00"),
        ("America/New_York", "30 1 1 11 *", {"duration": "1h"}, "2026-11-01 05:30", "2026-11-01 06:30"),
        ("Asia/Kathmandu", "0 8 29 3 *", {"duration": "1h"}, "2026-03-29 02:15", "2026-03-29 03:15"),
        (LORD_HOWE, "15 2 4 10 *", {"duration": "1h"}, "2026-10-03 15:30", "2026-10-03 16:30"),
        (LORD_HOWE, "45 1 5 4 *", {"end": "0 2 * * *"}, "2026-04-04 14:45", "2026-04-04 15:30"),
    ],
)  # fmt: skip
def test_a_window_over_a_clock_change(
    name: str, start: str, lasts: dict[str, str], starts: str, ends: str
) -> None:
    one, table = window(start, **lasts), zone(name)
    span = Span(utc(starts), utc(ends))
    assert span_at(one, table, span.starts) == span
    assert span_at(one, table, span.ends - 1) == span
    assert span_at(one, table, span.ends) is None
    before = span_at(one, table, span.starts - 1)
    assert before is None or before.starts < span.starts
    assert next_span(one, table, span.starts - 1) == span


def test_a_window_wholly_in_the_skipped_hour_is_not_that_day() -> None:
    one, table = window("15 2 * * *", end="45 2 * * *"), zone("Europe/Berlin")
    jump = utc("2026-03-29 01:00")
    assert all(span_at(one, table, jump + n) is None for n in range(-3600, 7200, 60))
    following = next_span(one, table, jump - 7200)
    assert following == Span(utc("2026-03-30 00:15"), utc("2026-03-30 00:45"))


def test_a_window_does_not_come_again_in_the_second_of_the_repeated_hours() -> None:
    one, table = window("30 2 * * *", duration="10m"), zone("Europe/Berlin")
    midnight = utc("2026-10-24 22:00")
    minutes = [n for n in range(12 * 60) if span_at(one, table, midnight + 60 * n)]
    assert minutes == list(range(150, 160))


@pytest.mark.parametrize("name", ZONES)
def test_an_hourly_window_never_comes_twice_at_one_moment(name: str) -> None:
    one, table = window("*/30 * * * *", duration="5m"), zone(name)
    changes = [since for since, _ in table.offsets[1:]] or [NOW]
    for change in changes:
        at, last = change - 7200, float("-inf")
        while at < change + 7200:
            span = next_span(one, table, at)
            assert span is not None
            assert span.starts > max(at, last)
            at = last = span.starts


def test_weekdays_are_the_zones_own() -> None:
    """Monday 08:00 in Auckland is Sunday in UTC."""
    one, table = window("0 8 * * mon", duration="1h"), zone("Pacific/Auckland")
    assert next_span(one, table, utc("2026-06-06 00:00")) == Span(
        utc("2026-06-07 20:00"), utc("2026-06-07 21:00")
    )


def test_a_moment_is_written_with_its_day_unless_it_is_today() -> None:
    berlin, now = zone("Europe/Berlin"), utc("2026-06-01 10:00")
    assert written(berlin, utc("2026-06-01 17:00"), now) == "19:00 Europe/Berlin"
    assert written(berlin, utc("2026-06-01 23:00"), now) == "Tue 01:00 Europe/Berlin"
    assert written(berlin, utc("2026-07-01 06:00"), now) == "2026-07-01 08:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
    ],
)
def test_an_unknown_zone_is_refused_with_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(UnknownZoneError, match=near):
        resolve(wrong, NOW)


@pytest.mark.parametrize("wrong", ["", "Europe", "../etc/passwd", "/etc/passwd", "nowhere\0"])
def test_what_is_no_name_of_a_zone_is_refused(wrong: str) -> None:
    with pytest.raises(UnknownZoneError, match="no time zone"):
        resolve(wrong, NOW)


def test_a_fixed_offset_is_one_row() -> None:
    table = zone("Asia/Kathmandu")
    assert [offset for _, offset in table.offsets] == [20_700.0]
    there = datetime.fromtimestamp(NOW, timezone(timedelta(hours=5, minutes=45)))
    assert wall(table, NOW) == there.replace(tzinfo=None)
