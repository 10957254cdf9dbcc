"""Commands that look at places: topology, plan. They change nothing."""

# ruff: noqa: PLC0415  (help and completion must not load gRPC)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteroscale_cli.commands import completion
from heteroscale_cli.commands.common import connected
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import usage

_Fleet = Annotated[
    str,
    typer.Option(
        "--fleet",
        metavar="FILE|live",
        help="A file with a document of kind Fleet; live: the coordinator's own nodes.",
    ),
]
_Svg = Annotated[
    Path | None, typer.Option("--svg", metavar="FILE", help="Draw a picture into this file.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


_New = Annotated[int | None, typer.Option(min=0, metavar="N", help="New instances of this role.")]
_Service = Annotated[
    str,
    typer.Argument(
        metavar="[SERVICE]",
        help="One that the coordinator has, instead of -f.",
        autocompletion=completion.services,
    ),
]
_Files = Annotated[
    list[str] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE|-|DIR",
        help="Services: a YAML file, - for standard input, or a folder; repeatable.",
    ),
]
_Defragment = Annotated[
    bool,
    typer.Option(
        "--defragment",
        help="Instead: which instances to move inside their S1 so that whole nodes become empty.",
    ),
]


_Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Instead: which instance stands badly, of a service or of all, and where it would go.",
    ),
]
_Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="TYPE=X,…",
        help="Of a GPU-hour, in any currency, over those of the fleet; repeatable.",
    ),
]
_Rules = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="A file of kind Coordinator: its rules.prices, over those of the fleet.",
    ),
]


@connected
def plan(
    connection: Connection,
    *,
    service: _Service = "",
    file: _Files = None,
    fleet: _Fleet = "live",
    prefill: _New = None,
    decode: _New = None,
    aggregated: _New = None,
    attention: _New = None,
    ffn: _New = None,
    defragment: _Defragment = False,
    repair: _Repair = False,
    price: _Price = None,
    rules: _Rules = None,
    svg: _Svg = None,
    as_json: _Json = False,
) -> None:
    """Say where new instances of a service would go, and why there; change nothing.

    Without counts it is what the service's min still lacks. Several services are placed in order of
    priority, each on what the ones before it leave. Where there is no place, the exit code is 1, and
    it is told why not, level by level, and what would help; each remedy was tried. Where GPUs have
    prices it says what the new instances cost. With --defragment it proposes moves for the live fleet,
    and the commands that would make them; with --repair it shows what the coordinator would heal.

    heteroscale plan -f service.yaml --fleet fleet.yaml --prefill 2 --decode 4

    heteroscale plan chat --prefill 1 --decode 2
    """
    from heteroscale.words import Role
    from heteroscale_cli.placing import costs, defragmenting
    from heteroscale_cli.placing import plan as shown

    if defragment:
        if file or service or fleet != "live" or repair:
            raise usage("--defragment: is of the live fleet as it stands; leave the rest out")
        defragmenting.show(connection, as_json=as_json)
        return
    given = {
        Role.PREFILL: prefill,
        Role.DECODE: decode,
        Role.AGGREGATED: aggregated,
        Role.ATTENTION: attention,
        Role.FFN: ffn,
    }
    counts = {role: count for role, count in given.items() if count is not None}
    if repair and (fleet != "live" or counts or svg):
        raise usage("--repair: is of the live fleet as it stands; give a service, -f, or nothing")
    if bool(file) == bool(service) and (file or not repair):
        raise usage(
            "plan: give a service by its name, or with -f FILE; or say --defragment or --repair"
        )
    prices = {**costs.of_rules(rules), **costs.typed(price or ())}
    wish = shown.Wish(tuple(file or ()), service, counts, svg, as_json, repair, prices)
    shown.show(connection, fleet, wish)


@connected
def topology(
    connection: Connection,
    *,
    fleet: _Fleet = "live",
    level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="Deepest level shown: vdc, physical_cluster, logical_cluster, s2, s1, s0 or node.",
        ),
    ] = "",
    open_: Annotated[
        list[str] | None,
        typer.Option(
            "--open",
            metavar="NAME",
            help="Show what is in this domain one by one; a name or a path a/b; may be given again.",
        ),
    ] = None,
    svg: _Svg = None,
    as_json: _Json = False,
) -> None:
    """Show the tree of network domains: GPUs free and used, by type and RDMA class.

    From the VDC inward to clusters, S2, S1, S0 and nodes, as far as nodes name them. Domains that are
    alike are folded into one line; --open shows them one by one. EMPTY counts nodes whose GPUs are
    all free. Without --level the tree ends at S1; of a small fleet at nodes, of a motley one where it
    fits a page. Of the live fleet the last changes of RDMA class are told too.

    heteroscale topology --fleet fleet.yaml --svg fleet.svg
    """
    from heteroscale_cli.placing import topology as shown

    shown.show(connection, fleet, shown.Wish(level, tuple(open_ or ()), svg, as_json))
