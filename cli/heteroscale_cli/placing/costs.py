"""What new instances cost: GPUs by type × the price of a GPU-hour, as far as prices are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

from heteroscale.documents import Document, DocumentError, read_one
from heteroscale_cli.errors import EXIT_USAGE, CliError, usage
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_cli.placing.planning import Plan
from heteroscale_coordinator.core.placement import Spot
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.topology import sub_cluster_of


class Line(NamedTuple):
    """GPUs of one type at one price."""

    gpu_type: str
    gpus: int
    price: float | None
    """Of a GPU-hour; None: it is not known."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of new instances, in whatever currency the prices are."""

    lines: tuple[Line, ...]

    @property
    def per_hour(self) -> float | None:
        """The sum; None: a type has no price, and unknown is not zero."""
        priced = [line.gpus * line.price for line in self.lines if line.price is not None]
        return sum(priced) if len(priced) == len(self.lines) else None

    @property
    def text(self) -> str:
        """In words; empty: no price is known."""
        priced = [line for line in self.lines if line.price is not None]
        if not priced:
            return ""
        terms = " + ".join(f"{one.gpus} {one.gpu_type} × {one.price:g}" for one in priced)
        if (whole := self.per_hour) is not None:
            return f"{whole:g} an hour: {terms}"
        rest = " and ".join(line.gpu_type for line in self.lines if line.price is None)
        return f"{terms} an hour, and {rest}, of which no price is known"


def of_spots(spots: Iterable[Spot], inventory: Inventory) -> Cost:
    """Return the cost of new instances, by the prices of the sub-clusters that they stand in."""
    homes = {}
    if any(one.prices for one in inventory.sub_clusters.values()):
        views = (node.view for node in inventory.nodes)
        homes = {view.agent_id: sub_cluster_of(view.topology) for view in views}
    gpus: Counter[tuple[str, float | None]] = Counter()
    for spot in spots:
        for rank in spot.ranks:
            there = inventory.sub_clusters.get(homes.get(rank.agent_id, ""))
            price = inventory.prices.get(spot.gpu_type, nan)
            price = there.prices.get(spot.gpu_type, price) if there is not None else price
            gpus[spot.gpu_type, price if isfinite(price) else None] += len(rank.gpu_indices)
    ordered = sorted(gpus.items(), key=lambda one: (one[0][0], one[0][1] or 0.0))
    return Cost(tuple(Line(kind, count, price) for (kind, price), count in ordered))


def of_plan(plan: Plan) -> Cost:
    """Return the cost of all new instances of a plan."""
    return of_spots((spot for one in plan.services for spot in one.spots), plan.after)


def priced(inventory: Inventory, prices: Mapping[str, float]) -> Inventory:
    """Return the fleet with other prices, wherever it is."""
    subs = {
        name: replace(one, prices={k: p for k, p in one.prices.items() if k not in prices})
        for name, one in inventory.sub_clusters.items()
    }
    return replace(inventory, prices={**inventory.prices, **prices}, sub_clusters=subs)


def typed(words: Sequence[str]) -> dict[str, float]:
    """Return what ``--price TYPE=X,…`` says; CliError: it is no price."""
    found: dict[str, float] = {}
    for part in (part.strip() for word in words for part in word.split(",")):
        kind, _, text = part.partition("=")
        try:
            price = float(text)
        except ValueError:
            price = -1.0
        if not kind or not isfinite(price) or price <= 0:
            raise usage(f"--price {part}: TYPE=PRICE wanted, a number above 0, as in H20=2.6")
        found[kind] = price
    return found


def of_rules(path: Path | None) -> dict[str, float]:
    """Return the prices of a coordinator's settings; CliError: the file is wrong or unreadable."""
    if path is None:
        return {}
    try:
        return _prices(read_one(path, "Coordinator"))
    except DocumentError as error:
        raise CliError(str(error), EXIT_USAGE, verbatim=True) from error
    except OSError as error:
        raise usage(f"--rules {path}: {error.strerror or error}") from error


def _prices(document: Document) -> dict[str, float]:
    if document.data.get("kind") != "Coordinator":
        said = f"is {document.data.get('kind')!r}, not 'Coordinator'"
        raise DocumentError([document.violation(("kind",), said)])
    if not (document.data.get("spec") or {}).get("rules"):
        return {}
    return dict(document.parse(Rules, at=("spec", "rules")).prices)
