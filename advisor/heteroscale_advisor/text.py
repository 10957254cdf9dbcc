"""Findings for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from heteroscale import __version__
from heteroscale.words import Role
from heteroscale_advisor.findings import (
    Findings,
    assumptions,
    inventory,
    next_steps,
    range_of,
    when,
)
from heteroscale_advisor.model import latencies_of
from heteroscale_advisor.presence import Floats
from heteroscale_advisor.replay import Kept, Side
from heteroscale_coordinator.edge.prometheus import promql
from heteroscale_simulator.report.charts import describe
from heteroscale_simulator.report.words import clock, number, percent, span

LISTED = 12
"""Decisions on a terminal."""


def lines(found: Findings) -> Iterator[str]:
    """Yield what a person reads."""
    grid, wishes = found.history.grid, found.wishes
    yield (
        f"{wishes.service}: {span(grid.seconds)} in slots of {grid.step:g} s from "
        f"{wishes.prometheus.url}, {percent(found.seen)} of it known"
    )
    yield f"  {when(grid)}"
    yield f"  series {{{found.asked.found.select}}}, instances by label {found.asked.found.by!r}"
    yield ""
    yield "WHAT IS THERE"
    yield from _table(
        ("ROLE", "NOW", "HELD", "ENGINES", "GPU TYPES", "TOKENS/S EACH", "TARGET"),
        [
            (
                str(row["role"]),
                _text(row["now"]),
                f"{_text(row['fewest'])} to {_text(row['most'])}",
                _counts(row["engines"]),
                _counts(row["gpu_types"]),
                f"{_number(row['tokens_per_s_median'])}, busy {_number(row['tokens_per_s_p95'])}",
                f"{_number(row['target'])} ({row['target_from']})",
            )
            for row in inventory(found)
        ],
    )
    yield ""
    if Role.AGGREGATED not in found.replay.models:
        yield "P:D RATIO (5th percentile, median, 95th)"
        yield f"  wanted by the work   {_range(found.replay.wanted)}"
        yield f"  held                 {_range(found.replay.had)}"
        yield ""
    yield from _sides(found)
    yield ""
    yield from _decided(found)
    yield ""
    yield "WHAT THIS RESTS ON"
    yield from (f"  - {one}" for one in assumptions(found))
    yield ""
    yield "WHAT TO DO NEXT"
    yield from (f"  {number}. {one}" for number, one in enumerate(next_steps(found), 1))


def headline(found: Findings) -> str:
    """Return the whole in a sentence."""
    replay = found.replay
    saved = replay.saved
    if saved is None:
        return f"{found.wishes.service}: nothing was held."
    way = "fewer" if saved >= 0 else "more"
    policy = "policy" if Role.AGGREGATED in replay.models else "joint policy"
    kept = ""
    if replay.joint.kept.both is not None:
        kept = f", with {percent(replay.joint.kept.both)} of requests within the SLO"
        if replay.held.kept.both is not None:
            kept += f" (held: {percent(replay.held.kept.both)})"
    return (
        f"The {policy} would have held {percent(abs(saved))} {way} GPU-hours: "
        f"{number(replay.joint.gpu_hours)} instead of {number(replay.held.gpu_hours)}{kept}."
    )


def as_json(found: Findings) -> str:
    """Return findings for programs."""
    replay = found.replay
    told = {
        "version": __version__,
        "service": found.wishes.service,
        "prometheus": found.wishes.prometheus.url,
        "select": found.asked.found.select,
        "start_s": found.history.grid.start,
        "seconds": found.history.grid.seconds,
        "step_s": found.history.grid.step,
        "known": found.seen,
        "roles": inventory(found),
        "ratio": {
            name: _named(values)
            for name, values in (("wanted", replay.wanted), ("held", replay.had))
        },
        "slo": {
            name: latency.promise.seconds
            for name, (_, latency) in latencies_of(replay.models).items()
        },
        "held": {**_side(replay.held), "kept_by_model": _kept(replay.held_by_model)},
        "joint": _side(replay.joint),
        "saved": replay.saved,
        "decisions": [
            {
                "at_s": one.at,
                "action": one.action,
                "delta": {role.value: n for role, n in one.delta.items()},
                "reason": one.reason,
                "bound_by": one.bound_by,
            }
            for one in replay.decisions
        ],
        "holds": dict(replay.holds),
        "assumptions": list(assumptions(found)),
        "next": list(next_steps(found)),
        "queries": {
            engine: {
                name: promql.fill(query, found.asked.found.select, found.asked.window)
                for name, query in made.items()
            }
            for engine, made in found.asked.queries.items()
        },
        "warnings": list(found.history.warnings),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _sides(found: Findings) -> Iterator[str]:
    replay = found.replay
    yield "HELD, AND WHAT THE JOINT POLICY WOULD HAVE HELD"
    yield from _table(
        ("", "GPU-HOURS", "TTFT KEPT", "TBT KEPT", "BOTH"),
        [
            ("held (measured)", number(replay.held.gpu_hours), *_shares(replay.held.kept)),
            ("held (as modelled)", "", *_shares(replay.held_by_model)),
            ("joint (as modelled)", number(replay.joint.gpu_hours), *_shares(replay.joint.kept)),
        ],
    )
    yield f"  {headline(found)}"


def _decided(found: Findings) -> Iterator[str]:
    decisions = [one for one in found.replay.decisions if one.scales]
    yield f"WHAT IT WOULD HAVE DECIDED ({len(decisions)} changes of counts)"
    for one in decisions[:LISTED]:
        yield f"  {clock(one.at)}  {describe(one):<24} {one.reason}"
    if len(decisions) > LISTED:
        yield f"  … and {len(decisions) - LISTED} more: --json or --html has all"


def _side(side: Side) -> Mapping[str, object]:
    return {"gpu_hours": side.gpu_hours, "kept": _kept(side.kept)}


def _kept(kept: Kept) -> Mapping[str, float | None]:
    return {"ttft": kept.ttft, "tbt": kept.tbt, "both": kept.both}


def _named(values: Floats) -> Mapping[str, float] | None:
    found = range_of(values)
    return None if found is None else dict(zip(("p5", "median", "p95"), found, strict=True))


def _shares(kept: Kept) -> tuple[str, str, str]:
    return percent(kept.ttft), percent(kept.tbt), percent(kept.both)


def _range(values: Floats) -> str:
    found = range_of(values)
    return "unknown" if found is None else "   ".join(number(one) for one in found)


def _counts(counts: object) -> str:
    assert isinstance(counts, dict)  # noqa: S101 - made by inventory
    return ", ".join(f"{n}× {name}" for name, n in counts.items())


def _text(value: object) -> str:
    return "–" if value is None else str(value)


def _number(value: object) -> str:
    return number(value if isinstance(value, float) else None)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()
