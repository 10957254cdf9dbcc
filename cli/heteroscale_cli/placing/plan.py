"""What ``heteroscale plan`` does: reads services and a fleet, plans, and shows what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.text import Text

from heteroscale.documents import DocumentError, Violation, read_documents
from heteroscale.words import Role
from heteroscale_cli import sources
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError, usage
from heteroscale_cli.output import print_text
from heteroscale_cli.placing import (
    costs,
    inventory,
    picture,
    plain,
    planning,
    terminal,
    topology,
    tree,
)
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_cli.placing.planning import Asked, Plan, Planned
from heteroscale_cli.sources import Source
from heteroscale_coordinator.core.placement import Infeasible, Placed, Remedy
from heteroscale_coordinator.core.placement.emptying import Emptied
from heteroscale_coordinator.core.placement.remedy import say
from heteroscale_coordinator.core.spec import ServiceDocument


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked."""

    files: tuple[str, ...] = ()
    service: str = ""
    """One that the coordinator has, instead of files."""
    counts: Mapping[Role, int] = field(default_factory=dict)
    """New instances by role; empty: what `min` lacks."""
    svg: Path | None = None
    """Where a picture goes of the fleet with what is new on it."""
    as_json: bool = False
    repair: bool = False
    """Instead: what repair would move."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of a GPU-hour by GPU type, over those of the fleet."""


def show(connection: Connection, fleet: str, wish: Wish) -> None:
    """Print where the instances would go.

    Raises:
        CliError: something is wrong with what was given; or, with nothing more to say, a service has
            no place.

    """
    services = _with_counts(_read(_texts(connection, wish)), wish.counts)
    with terminal.busy("Reading the fleet …"):
        known = inventory.read(fleet, connection, [one.name for one in services])
    known = costs.priced(known, wish.prices)
    if wish.repair:
        from heteroscale_cli.placing import healing  # noqa: PLC0415  (a file needs no gRPC)

        healing.show(connection, known, services, as_json=wish.as_json)
        return
    with terminal.busy("Looking for places …"):
        plan = planning.make(known, services)
        if fleet == inventory.LIVE and not plan.feasible:
            plan = _with_moves(connection, known, plan)
    if wish.svg is not None:
        names = ", ".join(one.asked.name for one in plan.services)
        title = f"Plan of {names} on {plan.fleet}"
        topology.write(wish.svg, tree.grow(plan.after), title, _news(plan))
    if wish.as_json:
        print_text(json.dumps(plain.plan(plan), indent=1, ensure_ascii=False))
    else:
        _print(plan)
    if not plan.feasible:
        # All that there is to say has been printed.
        raise CliError("", EXIT_REFUSED, verbatim=True)


def _news(plan: Plan) -> dict[str, dict[str, Counter[str]]]:
    found: dict[str, dict[str, Counter[str]]] = {}
    for spot in (spot for one in plan.services for spot in one.spots):
        for rank in spot.ranks:
            by_role = found.setdefault(rank.agent_id, {})
            by_role.setdefault(spot.role.value, Counter())[spot.gpu_type] += len(rank.gpu_indices)
    return found


def _with_moves(connection: Connection, known: Inventory, plan: Plan) -> Plan:
    """Return the plan with moves among the remedies, where emptied nodes would help."""
    from heteroscale_cli.placing import live  # noqa: PLC0415  (a file needs no gRPC)

    found = planning.emptied(known, live.holders(connection))
    return replace(plan, services=tuple(_with_move(known, one, found) for one in plan.services))


def _with_move(known: Inventory, one: Planned, found: Sequence[Emptied]) -> Planned:
    if isinstance(one.found, Placed):
        return one
    enough = planning.helped_by_moves(known, one, found)
    if not enough:
        return one
    names = ", ".join(node.agent_id for node in enough)
    moves = sum(len(node.shifts) for node in enough)
    text = f"instances moved: {moves} of them, to empty {names}; see `plan --defragment`"
    return replace(one, remedies=(*one.remedies, Remedy("moved", text)))


def _texts(connection: Connection, wish: Wish) -> list[Source]:
    if wish.files:
        return sources.read(wish.files)
    from heteroscale_cli.placing import live  # noqa: PLC0415  (a file needs no gRPC)

    if wish.service:
        return [Source(wish.service, live.document(connection, wish.service))]
    texts = live.documents(connection)
    if not texts:
        raise CliError(f"{connection.coordinator} has no services")
    return [Source(connection.coordinator, text) for text in texts]


def _read(texts: Sequence[Source]) -> list[Asked]:
    found: list[Asked] = []
    wrong: list[Violation] = []
    for source in texts:
        try:
            for document in read_documents(source.text, source.name):
                service = document.parse(ServiceDocument)
                if any(service.metadata.name == one.name for one in found):
                    raise usage(f"{source.name}: service {service.metadata.name!r} is given twice")
                found.append(Asked(service.metadata.name, service.spec))
        except DocumentError as error:
            wrong.extend(error.violations)
    if wrong:
        raise CliError("\n".join(map(str, wrong)), EXIT_USAGE, verbatim=True)
    if not found:
        raise usage("-f: holds no document; one of kind Service is due")
    return found


def _with_counts(services: list[Asked], counts: Mapping[Role, int]) -> list[Asked]:
    if not counts:
        return services
    if len(services) > 1:
        options = ", ".join(f"--{role}" for role in counts)
        raise usage(f"{options}: of {len(services)} services; give counts with one service only")
    (service,) = services
    roles = service.spec.roles
    for role in counts:
        if role not in roles:
            raise usage(
                f"--{role}: {service.name} has no such role; it has "
                f"{' and '.join(f'--{one}' for one in roles)}"
            )
    return [Asked(service.name, service.spec, {role: counts.get(role, 0) for role in roles})]


# ---- for people --------------------------------------------------------------------------------


def _print(plan: Plan) -> None:
    for place, one in enumerate(plan.services):
        if place:
            print_text("")
        _print_service(one, plan.fleet, plan.after)
    if len(plan.services) > 1:
        print_text("")
        fit = sum(isinstance(one.found, Placed) for one in plan.services)
        print_text(f"{fit} of {len(plan.services)} services have a place on {plan.fleet}.")
        if text := costs.of_plan(plan).text:
            print_text(f"New instances cost {text}.")


def _print_service(one: Planned, fleet: str, after: Inventory) -> None:
    wanted = say(one.counts)
    standing = say(Counter(s.role for s in one.standing if not s.withdrawn))
    beside = f" beside {standing}" if standing else ""
    if not wanted:
        why = "all counts are 0" if one.asked.counts else "it has its min. Give counts"
        terminal.show(f"{one.asked.name}: nothing to place{beside}: {why}.")
    elif isinstance(one.found, Infeasible):
        head = Text(f"{one.asked.name}: no place on {fleet} for {wanted}{beside}", "bold red")
        terminal.show(head)
        _bullets("Why not, level by level:", one.found.reasons)
        _bullets(
            "What would help:",
            [remedy.text for remedy in one.remedies]
            or [
                "nothing that was tried: not one instance of each role fits, nor would new nodes do"
            ],
        )
    else:
        terminal.show(Text(f"{one.asked.name}: {wanted}{beside} fit on {fleet}", "bold green"))
        _bullets("Where, and why there:", one.found.reason.split("; "))
        if text := costs.of_spots(one.spots, after).text:
            terminal.show(Text(f"  costs {text}"))
        print_text("")
        terminal.show(picture.draw(one, fleet))
        terminal.show(picture.legend(one))
        if one.found.rejected:
            _bullets("Not taken:", one.found.rejected)
    if one.notes:
        _bullets("Note:", one.notes)


def _bullets(title: str, lines: Sequence[str]) -> None:
    print_text("")
    terminal.show(title)
    for line in lines:
        terminal.show(Text(f"  {line}"))
