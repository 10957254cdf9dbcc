"""The command line of ``heteroscale profile``."""

from __future__ import annotations

import argparse
from pathlib import Path

from heteroscale_workbench.pressure.values import Counts

EPILOG = """\
  heteroscale profile --service chat.yaml --simulated --trace azure.csv.gz
  heteroscale profile --service chat.yaml --simulated --input-tokens 1000 --output-tokens 200 --dry-run
  heteroscale profile --service chat.yaml --endpoint http://router:30000 --counts 2,2 \\
      --input-tokens 1000 --output-tokens 200 --yes-this-is-not-production
  heteroscale profile --service chat.yaml --endpoint http://router:30000 --coordinator 127.0.0.1:7070 \\
      --units 8 --trace azure.csv.gz --yes-this-is-not-production

Every split of --units instances into prefill and decode is driven to the largest load that holds the
service's `slo` for --attainment of the requests (less where some miss it at a light load too). What
one instance carried at most, divided by 1 + toleranceOut (the laws scale out above that), becomes each
role's `target`. The band in which the need of the --trace moves, widened, becomes `ratio`; with --ratio
fixed it is the split that generates most tokens/s, as in the paper. Both are written into the service
file; nothing else in it changes, but for a remark. With --coordinator the splits are made by bounds of
the service (min = max), which has its own document again at the end; without it the deployment has the
--counts you say. Trials are kept in a journal: started again, the test goes on.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale profile",
        description="Find the best P:D ratio of a service and the targets that hold its SLO.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--service", required=True, type=Path, metavar="FILE", help="the service's document")
    where = result.add_mutually_exclusive_group(required=True)
    where.add_argument("--simulated", action="store_true", help="on the simulator's plant")
    where.add_argument("--endpoint", metavar="URL", help="on a real deployment, at its router")
    _workload(result.add_argument_group("the requests"))
    _search(result.add_argument_group("the search"))
    group = result.add_argument_group("with --simulated")
    group.add_argument("--profiles", type=Path, metavar="DIR", help="profile tables of your own")
    group.add_argument(
        "--extend-profiles", action="store_true", help="beyond their range by roofline estimates"
    )
    _endpoint(result.add_argument_group("with --endpoint"))
    add(
        "--ratio",
        choices=("band", "fixed"),
        default="band",
        help="what `ratio` becomes: how far the requests' own need moves, or the best split (band)",
    )
    add("--dry-run", action="store_true", help="say what was found, write nothing")
    add("--json", metavar="FILE", help="all trials and the finding as JSON; - is stdout")
    return result


def _workload(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--trace", metavar="TRACE", help="a recording, or gen:NAME as `heteroscale simulate` has it"
    )
    add("--input-tokens", type=_count, metavar="MEAN")
    add("--output-tokens", type=_count, metavar="MEAN")
    add("--spread", type=float, default=0.5, help="sigma of lognormal lengths (default: 0.5)")
    add("--seed", type=int, default=0)


def _search(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--units", type=_count, default=16, help="instances to split (default: 16)")
    add("--counts", action="append", type=_counts, metavar="P,D", help="only this; may be repeated")
    add(
        "--attainment",
        type=_share,
        default=0.99,
        help="share of requests to be met (0.99); less where idle engines miss some",
    )
    add("--tolerance", type=_share, default=0.03, help="how finely the limit is found (0.03)")
    add("--first-rate", type=float, metavar="R", help="requests/s to begin with")
    add("--warm-up", type=float, metavar="S", help="seconds before measuring (default: 60)")
    add("--measure", type=float, metavar="S", help="seconds measured (default: 120)")
    add("--journal", type=Path, metavar="FILE", help="default: SERVICE.profile.jsonl")


def _endpoint(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--coordinator", metavar="ADDR", help="who makes the splits")
    add("--model", help="as the endpoint calls it (default: the service's `model.name`)")
    add("--patience", type=float, default=900.0, metavar="S", help="for a split to stand (900)")
    add("--merged-events", action="store_true", help="engines that put several tokens in one event")
    add("--yes-this-is-not-production", action="store_true", help="without it nothing is sent")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _counts(text: str) -> Counts:
    try:
        prefill, decode = (_count(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write prefill,decode such as 2,3") from None
    return Counts(prefill, decode)
