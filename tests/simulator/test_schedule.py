"""A service with a schedule, simulated: its windows follow the clocks of its zone."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.simulator.typed import FLEET, SERVICE, simulate

SCHEDULE = """\
  policy:
    cooldownIn: 2m
    cooldownOut: 1m
    observation: 1m
    dampeningIn: 0.5
    guard: {startup: 60s}
    schedule:
      timeZone: Europe/Berlin
      windows:
        - {name: more, start: "30 2 * * *", duration: 10m, floor: {prefill: 3, decode: 8}}
        - {name: less, start: "25 3 * * *", duration: 15m, ceiling: {prefill: 2, decode: 2}}
"""
TRAFFIC = "gen:steady?hours=1.15&peak=4"
MORE, JUMP, LESS = (3.0, 8.0), 15, 40
"""Counts of the floor; minutes of the clock's jump, and of the ceiling, after 01:45."""


@dataclass(frozen=True)
class Played:
    counts: list[tuple[float, float]]
    """Prefill and decode in service by minute."""
    decisions: list[dict[str, str]]


@pytest.fixture(scope="module")
def jump(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The night in which Berlin's clocks skip 02:00 to 03:00, from a quarter to two."""
    return play(tmp_path_factory.mktemp("jump"), "2026-03-29T01:45+01:00")


def play(folder: Path, clock: str) -> Played:
    (folder / "s.yaml").write_text(SERVICE.replace(SERVICE.splitlines()[-1] + "\n", SCHEDULE))
    (folder / "f.yaml").write_text(FLEET)
    done = simulate(
        *("--service", folder / "s.yaml", "--fleet", folder / "f.yaml", "--trace", TRAFFIC),
        *("--clock", clock, "--initial", "1,4", "--export", folder / "out", "--quiet"),
    )
    assert done.code == 0, done.err
    counts = [
        (float(row["prefill_in_service"]), float(row["decode_in_service"]))
        for row in _rows(folder / "out" / "counts.csv")
    ]
    return Played(counts, _rows(folder / "out" / "decisions.csv"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_floor_in_the_skipped_hour_stands_at_the_jump(jump: Played) -> None:
    """Half past two is not on the clock that night: the window begins at the jump, at 03:00."""
    assert jump.counts[JUMP - 3] != MORE
    assert jump.counts[JUMP : JUMP + 10] == [MORE] * 10
    first = next(one for one in jump.decisions if one["bound_by"] == "schedule")
    assert 0 <= int(first["second"]) - (JUMP * 60 - 60) <= 5
    assert "from 03:00 Europe/Berlin, a start-up time ahead" in first["reason"]


def test_after_the_window_counts_fall_in_steps(jump: Played) -> None:
    end, low = (JUMP + 10) * 60, LESS * 60
    steps = [one for one in jump.decisions if end <= int(one["second"]) < low]
    withdrawn = [int(one["decode_delta"]) for one in steps if one["action"] == "scale_in"]
    assert len(withdrawn) > 1
    assert min(withdrawn) > 1 - MORE[1]


def test_a_ceiling_is_kept(jump: Played) -> None:
    low = jump.counts[LESS + 5 : LESS + 15]
    assert all(prefill <= 2 and decode <= 2 for prefill, decode in low)


def test_the_repeated_hour_has_its_window_once(tmp_path: Path) -> None:
    """From 02:25 on, on the day on which Berlin's clocks show 02:00 to 03:00 twice."""
    found = play(tmp_path, "2026-10-25T02:25+02:00")
    assert found.counts[5:15] == [MORE] * 10
    again = found.counts[65:69]
    assert len(again) == 4
    assert MORE not in again


def test_an_unknown_zone_is_refused(tmp_path: Path) -> None:
    wrong = SCHEDULE.replace("Europe/Berlin", "Europe/Berln")
    (tmp_path / "s.yaml").write_text(SERVICE.replace(SERVICE.splitlines()[-1] + "\n", wrong))
    (tmp_path / "f.yaml").write_text(FLEET)
    done = simulate(
        *("--service", tmp_path / "s.yaml", "--fleet", tmp_path / "f.yaml", "--trace", TRAFFIC)
    )
    assert done.code == 2
    assert "schedule.timeZone: no time zone 'Europe/Berln'" in done.err
    assert "Europe/Berlin" in done.err


@pytest.mark.parametrize("clock", ["tomorrow", "1969-12-31T00:00", "2026-13-01"])
def test_a_clock_that_is_none_is_refused(clock: str) -> None:
    done = simulate("--service", "s", "--fleet", "f", "--trace", TRAFFIC, "--clock", clock)
    assert done.code == 2
    assert f"--clock {clock}" in done.err
