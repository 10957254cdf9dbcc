"""``heteroscale fleet generate``: from counts of nodes to a fleet file."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from heteroscale_simulator.fleet import hosts, parse_fleet
from heteroscale_simulator.inventory.build import build
from heteroscale_simulator.inventory.figures import figures, lines
from heteroscale_simulator.inventory.text import fleet_text
from heteroscale_simulator.inventory.wish import USUAL, Kind, Wish, WishError
from heteroscale_simulator.report.files import Batch, check_file

EXIT_USAGE = 2
STDOUT = Path("-")
EPILOG = """\
Each S1 switch holds --ports nodes, less the ports that are empty. Mixed S2 domains have two GPU types,
each S1 below them one, but for the mixed S1s, which have both; what is left of a type stands in S2
domains of its own. The same options and seed give the same file, which `heteroscale simulate` reads.

examples:
  heteroscale fleet generate --nodes H20=480,H100=240 --output fleet.yaml
  heteroscale fleet generate --nodes H20=6000,H100=3000 --mixed-s2 0.3 --mixed-s1 0.1 -o fleet.yaml
  heteroscale fleet generate --nodes H20=64,A10=32x4 --ports 8 --down 0 --broken-gpus 0 --links-down 0

exit status: 0 done, 2 wrong usage or a place that cannot be written (nothing was written)
"""


def run(argv: Sequence[str]) -> int:
    """Run ``heteroscale fleet ARGV…`` and return the exit code."""
    return execute(argv, sys.stdout, sys.stderr)


def execute(argv: Sequence[str], out: TextIO, told: TextIO) -> int:
    """Run a command line; the document goes to ``out`` unless a file is named, figures to the other."""
    options = parser().parse_args(argv)
    try:
        wish = wish_of(options)
        if options.output == STDOUT:
            if options.json:
                raise WishError("--json: name a file for the fleet too: --output FILE")
        else:
            check_file(options.output, "--output")
        text = fleet_text(build(wish), _command(wish))
        found = figures(hosts(parse_fleet(text).spec))
        if options.output == STDOUT:
            out.write(text)
        else:
            with Batch() as batch:
                batch.write(options.output, [text])
    except (ValueError, OSError) as error:
        told.write(f"error: {error}\n")
        return EXIT_USAGE
    if options.json:
        out.write(json.dumps(asdict(found)) + "\n")
    elif not options.quiet:
        (told if options.output == STDOUT else out).write("\n".join(lines(found)) + "\n")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale fleet", description="Fleets (kind: Fleet) without a fleet."
    )
    commands = result.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = commands.add_parser(
        "generate",
        help="make an inventory from counts of nodes",
        description="Make a fleet file from counts of nodes: switches, domains of several GPU types, "
        "clusters, faults.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _nodes(made.add_argument_group("the nodes"))
    _network(made.add_argument_group("the network"))
    _faults(made.add_argument_group("what does not work"))
    _output(made.add_argument_group("what comes out"))
    return result


def wish_of(options: argparse.Namespace) -> Wish:
    """Return what was asked for. Raises WishError."""
    return Wish(
        kinds=tuple(kind for one in options.nodes for kind in _kinds(one)),
        prices=dict(price for one in options.price for price in _prices(one)),
        nvlink=dict(pair for one in options.nvlink for pair in _groups(one)),
        **{name: getattr(options, name) for name in _PLAIN},
    )


_PLAIN = (
    *("name", "seed", "ports", "empty_ports", "s1_per_s2", "s2_per_cluster", "clusters_per_site"),
    *("sites_per_vdc", "mixed_s1", "mixed_s2", "down", "broken_gpus", "links_down", "links"),
    "numa_nodes",
)
_DEFAULTS = Wish((Kind("any", 1),))


def _plain(group: argparse._ArgumentGroup, name: str, metavar: str, text: str) -> None:
    """Add an option whose name, type and default are those of a field of ``Wish``."""
    default = getattr(_DEFAULTS, name)
    group.add_argument(
        "--" + name.replace("_", "-"),
        type=type(default),
        default=default,
        metavar=metavar,
        help=f"{text} (default: {default})",
    )


def _nodes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        *("--nodes", "-n"),
        action="append",
        required=True,
        metavar="TYPE=N[xGPUS],…",
        help="so many nodes of a GPU type, with 8 GPUs each unless it is said: H20=480,A10=32x4",
    )
    group.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="TYPE=X,…",
        help="of a GPU-hour, in any currency (default: the catalogue's)",
    )
    _plain(group, "numa_nodes", "N", "NUMA nodes of each, where they divide its GPUs; 0: untold")
    group.add_argument(
        "--nvlink",
        action="append",
        default=[],
        metavar="TYPE=N,…",
        help="groups of a node's GPUs with NVLink: 1 with NVSwitch, 4 for pairs of 8 (default: untold)",
    )
    _plain(group, "name", "NAME", "name of the fleet")
    _plain(group, "seed", "N", "another seed deals otherwise")


def _network(group: argparse._ArgumentGroup) -> None:
    _plain(group, "ports", "N", "nodes that one S1 switch holds")
    _plain(group, "empty_ports", "SHARE", "share of those ports without a node")
    _plain(group, "s1_per_s2", "N", "S1 switches below one S2")
    _plain(group, "s2_per_cluster", "N", "S2 in one logical cluster")
    _plain(group, "clusters_per_site", "N", "logical clusters in one physical cluster")
    _plain(group, "sites_per_vdc", "N", "physical clusters in one VDC")
    _plain(group, "mixed_s1", "SHARE", "share of S1 domains with two GPU types: the high class")
    _plain(group, "mixed_s2", "SHARE", "share of S2 domains with two: those, and the medium class")


def _faults(group: argparse._ArgumentGroup) -> None:
    _plain(group, "down", "SHARE", "share of nodes that are down")
    _plain(group, "broken_gpus", "SHARE", "share of the other nodes' GPUs that do not work")
    _plain(group, "links_down", "SHARE", "share of their RDMA ports without a link")
    _plain(group, "links", "N", "RDMA ports of a node")


def _output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--output", "-o", type=Path, default=STDOUT, metavar="FILE", help="default: standard output"
    )
    add("--json", action="store_true", help="what it came to, as JSON; the fleet goes to --output")
    add("--quiet", "-q", action="store_true", help="do not say what it came to")


def _command(wish: Wish) -> str:
    """Return the command that makes this inventory again, wherever it was written to."""
    nodes = ",".join(
        f"{kind.gpu_type}={kind.nodes}" + ("" if kind.gpus == USUAL else f"x{kind.gpus}")
        for kind in wish.kinds
    )
    words = ["heteroscale", "fleet", "generate", "--nodes", nodes]
    if wish.prices:
        words += ["--price", ",".join(f"{kind}={price:g}" for kind, price in wish.prices.items())]
    if wish.nvlink:
        words += ["--nvlink", ",".join(f"{kind}={n}" for kind, n in wish.nvlink.items())]
    for name in _PLAIN:
        value = getattr(wish, name)
        if value != getattr(_DEFAULTS, name):
            words += ["--" + name.replace("_", "-"), f"{value}"]
    return shlex.join(words)


def _kinds(text: str) -> list[Kind]:
    return [_kind(part) for part in text.split(",")]


def _kind(part: str) -> Kind:
    gpu_type, _, count = part.strip().partition("=")
    nodes, times, gpus = count.partition("x")
    try:
        return Kind(gpu_type, int(nodes), int(gpus) if times else USUAL)
    except ValueError:
        raise WishError(f"--nodes {part}: TYPE=NODES or TYPE=NODESxGPUS wanted") from None


def _groups(text: str) -> list[tuple[str, int]]:
    found = []
    for part in text.split(","):
        gpu_type, _, groups = part.strip().partition("=")
        try:
            found.append((gpu_type, int(groups)))
        except ValueError:
            raise WishError(f"--nvlink {part}: TYPE=GROUPS wanted") from None
    return found


def _prices(text: str) -> list[tuple[str, float]]:
    found = []
    for part in text.split(","):
        gpu_type, _, price = part.strip().partition("=")
        try:
            found.append((gpu_type, float(price)))
        except ValueError:
            raise WishError(f"--price {part}: TYPE=PRICE wanted") from None
    return found
