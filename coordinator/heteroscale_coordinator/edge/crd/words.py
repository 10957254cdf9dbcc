"""Names that the cluster knows us by. They are an interface: whoever changes one breaks installations."""

from __future__ import annotations

GROUP = "heteroscale.io"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ScaledService"
PLURAL = "scaledservices"
SINGULAR = "scaledservice"
SHORT = "hsvc"
NAME = f"{PLURAL}.{GROUP}"

FINALIZER = f"{GROUP}/service"
"""On the object that owns a service, and on no other: so ownership outlives the coordinator."""
ON_DELETE = f"{GROUP}/on-delete"
"""Annotation: ``drain`` (the default) or ``keep``: what becomes of the instances."""
TAKE_OVER = f"{GROUP}/take-over"
"""Annotation ``"true"``: the object takes a service that was applied by other means."""

ACCEPTED, ACTIVE, PLACED, PAUSED = "Accepted", "Active", "Placed", "Paused"
"""Conditions."""
