"""Where instances may stand to each other: affinity, spread over failure domains, who can feed whom."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale.taints import Taint, TaintEffect
from heteroscale_coordinator.core.spec.names import Label

Share = Annotated[float, Field(gt=0, lt=1)]


class SpreadSpec(DocumentModel):
    """How much of one role may stand in one failure domain, so that one failure leaves the rest."""

    level: Literal["node", "s1", "s2", "cluster", "subCluster"] = "s1"
    """The domain that may fail as a whole. Nodes that do not name theirs share the next level up."""
    most: PositiveInt | Share = 0.5
    """Instances of each role in one domain: a share of all of the role, below 1, rounded up (0.5), or
    a number (2). Small values need many domains, and pull prefill and decode apart where few are."""
    required: bool = False
    """False: where the limit leaves no room it is passed over, and the decision says so. True:
    infeasible instead."""


class SubClusterSpec(DocumentModel):
    """Which sub-clusters, by name. To stand in several, see `spread` with `level: subCluster`."""

    require: tuple[Label, ...] = ()
    """Only in these. Empty: in any."""
    prefer: tuple[Label, ...] = ()
    """In this order, before class and price; the others come last."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for field, names in (("require", self.require), ("prefer", self.prefer)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{field} names {', '.join(twice)} twice: leave one out")
        strange = [name for name in self.prefer if name not in self.require]
        if self.require and strange:
            raise ValueError(
                f"prefer names {', '.join(strange)}, which require leaves out: add it to require, or "
                "leave it out of prefer"
            )
        return self


class RepairSpec(DocumentModel):
    """How groups are healed: another instance is launched in a better place, then one leaves."""

    enabled: bool = True
    """Heal instances on sick hardware, and groups out of balance or spread over two domains."""
    pause: Annotated[Duration, Field(gt=0)] = 600.0
    """So long nothing of the service may have changed before one instance is moved, one at a time.
    Each move holds its GPUs twice for a start-up and an observation."""


class Toleration(DocumentModel):
    """Which taints of nodes are no hindrance; written as in a pod's specification."""

    key: str = ""
    """Of the taint. Left out, with operator Exists: every key."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal: the taint has this `value`. Exists: whatever its value."""
    value: str = ""
    """Of the taint, with operator Equal."""
    effect: TaintEffect | None = None
    """NoSchedule, PreferNoSchedule or NoExecute. Left out: every effect."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.key and self.operator == "Equal":
            raise ValueError("name the key, or write operator: Exists to tolerate every taint")
        if self.value and self.operator == "Exists":
            raise ValueError("with operator Exists any value is tolerated: leave the value out")
        return self

    def tolerates(self, taint: Taint) -> bool:
        """Return whether the taint is no hindrance."""
        if self.effect not in (None, taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or self.value == taint.value


class PlacementSpec(DocumentModel):
    """Where prefill and decode of one step may stand to each other, and apart from each other."""

    affinity: Literal["s1", "s2", "cluster"] = "s1"
    """The nearest domain they should share."""
    required: bool = False
    """False: the next wider domain when the wished one has no room. True: infeasible instead."""
    spread: SpreadSpec | None = None
    """Limits for failure domains. Default: none; packing keeps whole nodes and domains free."""
    sub_cluster: SubClusterSpec = SubClusterSpec()
    """In which sub-clusters: the physical clusters that nodes name. Prefill and decode of one group never
    stand in two of them."""
    repair: RepairSpec = RepairSpec()
    """How groups are healed, slowly."""
    feeds: dict[str, tuple[str, ...]] = {}
    """Which GPU types can take the KV cache of a prefill type, e.g. {L20: [L20, H20]}. A type that is not
    named feeds all types of its own vendor: across vendors, layout and transfer of the cache differ
    unless the engines convert it. Held over the whole service, as a router pairs any with any."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that its instances bear. On a node with another taint nothing is placed
    (NoSchedule, NoExecute), or only where there is no other place (PreferNoSchedule); from one with
    another NoExecute instances move away, the new one first."""
