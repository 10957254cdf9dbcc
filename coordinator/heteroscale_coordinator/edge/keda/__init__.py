"""KEDA's external-scaler API: what others who scale a service are told of its counts.

`trigger` reads what a ScaledObject says, and answers from what is committed · `polls` remembers who
asked · `face` is the API · `server` the port. Nothing here changes anything.
"""

from heteroscale_coordinator.edge.keda.face import KedaFace
from heteroscale_coordinator.edge.keda.polls import Polls
from heteroscale_coordinator.edge.keda.server import KedaServer

__all__ = ["KedaFace", "KedaServer", "Polls"]
