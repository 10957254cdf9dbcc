"""The plant request by request: slow and plain, so that the flow can be held against it.

It shares no code with ``plant``: only the profile's tables, and what the words mean.
"""

from heteroscale_simulator.events.deployment import Deployment
from heteroscale_simulator.events.play import play
from heteroscale_simulator.events.requests import Answer, Request, requests_of

__all__ = ["Answer", "Deployment", "Request", "play", "requests_of"]
