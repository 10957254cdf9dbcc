"""The nodes that a command looks at: of a fleet's file, or of the live coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from heteroscale.documents import DocumentError
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import EXIT_USAGE, CliError, usage
from heteroscale_coordinator.core.placement import NodeView, Standing, SubCluster
from heteroscale_coordinator.core.placement.emptying import Tenant
from heteroscale_coordinator.core.rules import SubClusterRules

LIVE = "live"
GROUP = "heteroscale.fleets"
"""Entry points: ``Fleet`` gives a function from a path to name, nodes, prices and sub-clusters."""

Reader = Callable[
    [Path], tuple[str, Sequence[NodeView], Mapping[str, float], Mapping[str, SubClusterRules]]
]


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and what of it is in use."""

    view: NodeView
    held: frozenset[int] = frozenset()
    """GPUs that something holds. What is neither held nor free is closed: cordoned, sick, silent."""
    trial: bool = False
    """A breaker is half-open here: one instance is tried."""
    trial_types: tuple[str, ...] = ()
    """GPU types of which one instance is tried."""

    @property
    def free(self) -> tuple[int, ...]:
        """GPUs that may be given to something new; none while the node is closed."""
        return self.view.free if self.view.usable else ()


@dataclass(frozen=True, slots=True)
class Holder:
    """An instance that holds GPUs of one node, or one of its ranks."""

    tenant: Tenant
    service: str
    role: str


@dataclass(frozen=True, slots=True)
class ClassChange:
    """The nodes of a domain are of another RDMA class than before."""

    at: float
    domain: str
    before: str
    after: str
    nodes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A fleet at one moment."""

    name: str
    nodes: tuple[Node, ...]
    standing: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)
    """Instances by service, of the services that were asked for."""
    foreign: frozenset[str] = frozenset()
    """Those of them that the coordinator did not launch, and does not command."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of a GPU-hour, by GPU type, as far as they are known."""
    vendors: Mapping[str, str] = field(default_factory=dict)
    """By GPU type; empty where all are of one, or nobody tells."""
    sub_clusters: Mapping[str, SubCluster] = field(default_factory=dict)
    """What is told of sub-clusters whatever the service, by name."""
    service_quotas: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Most GPUs in a sub-cluster by service, by the sub-cluster's name."""
    changes: tuple[ClassChange, ...] = ()
    """Of RDMA class, the oldest first; a fleet's file has none."""
    breakers: Mapping[str, str] = field(default_factory=dict)
    """What launches that failed closed to the one service that was asked for, and why."""
    any_template: bool = False
    """A fleet's file names no launch templates: every node takes every one."""


def read(fleet: str, connection: Connection, services: Sequence[str] = ()) -> Inventory:
    """Return the nodes of a fleet's file, or of the coordinator when ``fleet`` is ``live``.

    ``services``: whose instances are read too.

    Raises:
        CliError: the file is wrong or unreadable, its reader is not installed, or the coordinator
            does not answer.

    """
    if fleet != LIVE:
        return of_file(Path(fleet))
    from heteroscale_cli.placing import live  # noqa: PLC0415  (a file needs no gRPC)

    return live.read(connection, services)


def of_file(path: Path) -> Inventory:
    """Return the nodes that a document of kind Fleet means; errors as ``read``."""
    try:
        name, nodes, prices, rules = _reader()(path)
    except DocumentError as error:
        raise CliError(str(error), EXIT_USAGE, verbatim=True) from error
    except OSError as error:
        hint = "; for the coordinator's own fleet say --fleet live" if not path.suffix else ""
        raise usage(f"--fleet {path}: {error.strerror or error}{hint}") from error
    every = tuple(Node(node) for node in nodes)
    return Inventory(
        name,
        every,
        prices=prices,
        sub_clusters={
            name: SubCluster(prices=one.prices, quotas=one.quotas) for name, one in rules.items()
        },
        service_quotas={name: one.service_quotas for name, one in rules.items()},
        any_template=True,
    )


def _reader() -> Reader:
    point = next((one for one in entry_points(group=GROUP) if one.name == "Fleet"), None)
    if point is None:
        raise _not_installed("heteroscale_simulator")
    try:
        reader: Reader = point.load()
    except ModuleNotFoundError as error:
        raise _not_installed(error.name or str(error)) from error
    return reader


def _not_installed(what: str) -> CliError:
    return usage(
        f"--fleet FILE needs {what}: pip install 'heteroscale[simulator]', or say --fleet live"
    )
