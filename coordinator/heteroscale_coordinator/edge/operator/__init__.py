"""The face for operators: ``OperatorService`` on grpc.aio.

Reads are answered from the committed state at once; wishes go through the loop and are answered
when they are committed. Who may call is checked before, by the interceptor of ``trust``.
"""

from __future__ import annotations

from heteroscale_coordinator.edge.operator.decisions import DecisionRecord
from heteroscale_coordinator.edge.operator.fleet import Fleet
from heteroscale_coordinator.edge.operator.services import Services
from heteroscale_coordinator.edge.operator.watching import Watching


class OperatorFace(Services, Fleet, DecisionRecord, Watching):
    """Answers operators. One instance serves them all, on the loop's own event loop."""
