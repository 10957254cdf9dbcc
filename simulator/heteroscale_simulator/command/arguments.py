"""The grammar of ``heteroscale simulate``, and what a command line means once it is checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from heteroscale.documents import parse_duration
from heteroscale_simulator.traffic.generators import SHAPES
from heteroscale_simulator.traffic.source import GENERATED
from heteroscale_simulator.world.core_driver import START

STDOUT = Path("-")
FIRST_YEAR = 1971
MAX_RATE_SCALE = 1e9
"""Beyond it, numbers of requests a second are none that can be drawn."""
V = TypeVar("V")
POLICIES = {
    "joint": "the coordinator's own core: both roles together, by demand, inside the ratio's band",
    "hpa": "a Kubernetes HPA per role on offered tokens/s, with 30 % head-room",
    "hpa-gpu": "a Kubernetes HPA per role on GPU utilisation",
    "keda": "KEDA: the same HPA, its metric read every 30 s",
    "knative": "Knative's KPA per role on the requests inside, 70 a pod",
    "aibrix": "AIBrix' APA per role on offered tokens/s, as it is coded",
    "aibrix-window": "the same, with the scale-down window of an HPA",
    "dynamo-sla": "Dynamo's first SLA planner: last interval's tokens, at full capacity",
    "static-peak": "always the counts that the busiest minute needs",
    "oracle-free": "perfect foresight, each role for itself, played back",
    "oracle-fixed": "perfect foresight at the best fixed P:D ratio, played back",
}
"""What the help says of each."""
EPILOG = """\
policies:
{policies}

generated traffic, with parameters as in gen:diurnal?hours=24&peak=400&input=2000:
{generators}

examples:
  heteroscale simulate --service service.yaml --fleet fleet.yaml --trace requests.csv.gz
  heteroscale simulate --service service.yaml --fleet fleet.yaml --trace requests.csv.gz \\
      --rate-scale 40 --policy joint,hpa,static-peak --report report.html --json figures.json
  heteroscale simulate --service service.yaml --fleet fleet.yaml --trace gen:diurnal --duration 2h
  heteroscale simulate --service a.yaml --trace a.csv --service b.yaml --trace b.csv --fleet fleet.yaml

The fleet runs in virtual time: nothing is started, nothing is sent. The same seed gives the same run.
Ready-made services and fleets lie in examples/; what each figure means, in docs/simulator.md.

exit status: 0 done, 2 wrong usage or unreadable input (nothing was written), 130 interrupted
"""


class UsageError(ValueError):
    """A command line, or a file on it, that cannot be obeyed; the message says what would be right."""


@dataclass(frozen=True)
class Options:
    """What was asked for. Lists by service have one entry for each."""

    services: Sequence[Path]
    traces: Sequence[str]
    fleet: Path
    policies: Sequence[str]
    rate_scales: Sequence[float]
    initial: Sequence[tuple[int, int] | None]
    seed: int
    start: float
    clock: float
    duration: float | None
    classes: int
    cache_hit: float
    profiles: Path | None
    extend_profiles: bool
    json: Path | None
    report: Path | None
    export: Path | None
    quiet: bool
    progress: bool


def parser(policies: Sequence[str]) -> argparse.ArgumentParser:
    """Return the command line's grammar; ``policies`` are the names that are known."""
    result = argparse.ArgumentParser(
        prog="heteroscale simulate",
        description="Play a trace against a service on a fleet, in virtual time, under one scaling "
        "policy or several, and hold each against static peak provisioning and perfect foresight.",
        epilog=_epilog(policies),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(result.add_argument_group("what is simulated"))
    _how(result.add_argument_group("how the traffic is played"))
    _where(result.add_argument_group("what comes out"))
    return result


def _epilog(policies: Sequence[str]) -> str:
    listed = [f"  {name:<20}{POLICIES.get(name, '')}" for name in policies]
    shapes = [f"  {GENERATED + name:<20}{shape.meaning}" for name, shape in SHAPES.items()]
    return EPILOG.format(policies="\n".join(listed), generators="\n".join(shapes))


def _what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        *("--service", "-s"),
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="a service (kind: Service) with prefill and decode; repeat it, each with its --trace",
    )
    add("--fleet", "-f", required=True, type=Path, metavar="FILE", help="the fleet (kind: Fleet)")
    add(
        *("--trace", "-t"),
        action="append",
        required=True,
        metavar="TRACE",
        help="a recording (t_s,input_tokens,output_tokens; Azure's CSV; Mooncake's JSON lines; plain "
        "or gzip), or generated traffic such as gen:diurnal: see below",
    )
    add(
        *("--policy", "-p"),
        default="joint",
        metavar="A,B",
        help="policies to compare, in this order (default: joint)",
    )
    add(
        "--initial",
        action="append",
        metavar="P,D",
        help="prefill and decode instances in service at the start; once, or once a service "
        "(default: what the first minutes need)",
    )
    add(
        "--profiles",
        type=Path,
        metavar="DIR",
        help="speeds: a folder of profile_*_by_gpu.csv, a YAML file, or a shipped profile "
        "(default: the fleet's, else the catalogue)",
    )
    add(
        "--extend-profiles",
        action="store_true",
        help="carry speeds on beyond their tables, and say so, instead of refusing",
    )


def _how(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--rate-scale",
        action="append",
        type=float,
        metavar="K",
        help="requests that each recorded one stands for, any K > 0; once, or once a trace (default: 1)",
    )
    add("--start", metavar="TIME", help="leave out the first TIME of the traces, e.g. 6h")
    add(
        "--clock",
        metavar="DATE",
        help="date and time of the first second played, UTC unless it says otherwise, for services with "
        "a schedule: 2026-03-29T00:00 or 2026-03-29T00:00+01:00 (default: a Monday of 1970)",
    )
    add("--duration", metavar="TIME", help="play only so long, e.g. 24h or 90m")
    add(
        "--cache-hit",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of prompt tokens found in the prefix cache, 0 to 1 (default: 0)",
    )
    add(
        "--classes",
        type=int,
        default=8,
        metavar="N",
        help="most groups of alike requests in a second (default: 8)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (default: 0)")


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--json", type=Path, metavar="OUT", help="write the figures there; - is standard output")
    add("--report", type=Path, metavar="OUT.html", help="write a page to look at, in one file")
    add("--export", type=Path, metavar="DIR", help="write tables to recompute every figure from")
    add("--quiet", "-q", action="store_true", help="print no table, and no progress")
    add(
        "--progress",
        action="store_true",
        help="tell how far it is, in a line every 10 s, where no terminal is there for a bar",
    )


def options(arguments: argparse.Namespace, known: Sequence[str]) -> Options:
    """Return what the arguments mean.

    Raises:
        UsageError: a value is out of range, or lists do not fit each other.

    """
    services, traces = arguments.service, arguments.trace
    if len(services) != len(traces):
        raise UsageError(
            f"{len(services)} × --service, but {len(traces)} × --trace: each service needs one trace"
        )
    count = len(services)
    return Options(
        services=services,
        traces=traces,
        fleet=arguments.fleet,
        policies=_policies(arguments.policy, known),
        rate_scales=_each("--rate-scale", [_rate(k) for k in arguments.rate_scale or [1.0]], count),
        initial=_each("--initial", [_initial(text) for text in arguments.initial or [None]], count),
        seed=_at_least("--seed", arguments.seed, 0),
        start=_time("--start", arguments.start) or 0.0,
        clock=_clock(arguments.clock),
        duration=_duration(arguments.duration),
        classes=_at_least("--classes", arguments.classes, 1),
        cache_hit=_share("--cache-hit", arguments.cache_hit),
        profiles=arguments.profiles,
        extend_profiles=arguments.extend_profiles,
        json=arguments.json,
        report=arguments.report,
        export=arguments.export,
        quiet=arguments.quiet,
        progress=arguments.progress,
    )


def _policies(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--policy names none; known: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UsageError(f"--policy {name}: not known; known are {', '.join(known)}")
        if names.count(name) > 1:
            raise UsageError(f"--policy {name}: is there twice; name each policy once")
    return names


def _rate(value: float) -> float:
    if not 0 < value <= MAX_RATE_SCALE:
        raise UsageError(
            f"--rate-scale {value:g}: must be above 0 and at most {MAX_RATE_SCALE:g}, e.g. 56 or 0.5"
        )
    return value


def _initial(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    try:
        prefill, decode = (int(part) for part in parts)
    except ValueError:
        raise UsageError(f"--initial {text}: write prefill,decode such as 4,8") from None
    if min(prefill, decode) < 1:
        raise UsageError(f"--initial {text}: at least one instance of each role is needed")
    return prefill, decode


def _time(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def _clock(text: str | None) -> float:
    """Return the moment in seconds since 1970; time zones are known from 1971 on."""
    if text is None:
        return START
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--clock {text}: write 2026-03-29T00:00 or a date alone") from None
    at = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if read.year < FIRST_YEAR:
        raise UsageError(f"--clock {text}: must not be before {FIRST_YEAR}")
    return at


def _duration(text: str | None) -> float | None:
    seconds = _time("--duration", text)
    if seconds is not None and seconds < 1:
        raise UsageError(f"--duration {text}: at least one second is needed")
    return seconds


def _share(option: str, value: float) -> float:
    if not 0 <= value < 1:
        raise UsageError(f"{option} {value:g}: a share from 0 to below 1 is needed, e.g. 0.3")
    return value


def _at_least(option: str, value: int, least: int) -> int:
    if value < least:
        raise UsageError(f"{option} {value}: must be {least} or more")
    return value


def _each(option: str, values: Sequence[V], count: int) -> Sequence[V]:
    if len(values) == 1:
        return list(values) * count
    if len(values) != count:
        raise UsageError(
            f"{option} is there {len(values)} times: once, or once for each of the {count} services"
        )
    return values
