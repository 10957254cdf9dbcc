"""What a user writes: the specification of a service, with unit, formula and risk beside each field.

The same models validate the YAML, are read by the core, and yield the JSON Schema
(``heteroscale schema``), so that nothing is described twice. They are frozen values. Each law has
its settings in a file of its own.
"""

from heteroscale_coordinator.core.spec.gate import NEEDED_OPTIONS, DrainSpec, GateSpec
from heteroscale_coordinator.core.spec.latency import GuardSpec, SloSpec
from heteroscale_coordinator.core.spec.names import Fraction, Name
from heteroscale_coordinator.core.spec.placement import (
    PlacementSpec,
    RepairSpec,
    SpreadSpec,
    Toleration,
)
from heteroscale_coordinator.core.spec.policy import ConsentSpec, PolicySpec
from heteroscale_coordinator.core.spec.ratio import Ratio, RatioSpec
from heteroscale_coordinator.core.spec.roles import RoleSpec
from heteroscale_coordinator.core.spec.service import (
    Metadata,
    ModelSpec,
    ServiceDocument,
    ServiceSpec,
)
from heteroscale_coordinator.core.spec.signals import SignalSpec

__all__ = [
    "NEEDED_OPTIONS",
    "ConsentSpec",
    "DrainSpec",
    "Fraction",
    "GateSpec",
    "GuardSpec",
    "Metadata",
    "ModelSpec",
    "Name",
    "PlacementSpec",
    "PolicySpec",
    "Ratio",
    "RatioSpec",
    "RepairSpec",
    "RoleSpec",
    "ServiceDocument",
    "ServiceSpec",
    "SignalSpec",
    "SloSpec",
    "SpreadSpec",
    "Toleration",
]
