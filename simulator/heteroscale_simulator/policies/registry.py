"""Rivals by the name that a person types after ``--policy``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.schedule import Schedule
from heteroscale_simulator.policies.aibrix import Aibrix
from heteroscale_simulator.policies.dynamo import DynamoSla
from heteroscale_simulator.policies.foresight import Replay
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.hpa import Hpa
from heteroscale_simulator.policies.hpa_pods import HpaGpu
from heteroscale_simulator.policies.keda import Keda
from heteroscale_simulator.policies.knative import Knative
from heteroscale_simulator.policies.port import Rival

JOINT = "joint"
"""The coordinator's own core: the world drives it, no rival does."""
FORESIGHT: Mapping[str, Callable[[Limits], Schedule]] = {
    "static-peak": lambda limits: limits.static_peak,
    "oracle-free": lambda limits: limits.free,
    "oracle-fixed": lambda limits: limits.fixed,
}
"""Those that replay a schedule, and which one."""


def _replay(name: str, grounds: Grounds) -> Rival:
    return Replay(name, FORESIGHT[name](grounds.schedules))


RIVALS: Mapping[str, Callable[[Grounds], Rival]] = {
    "hpa": Hpa,
    "hpa-gpu": HpaGpu,
    "keda": Keda,
    "knative": Knative,
    "aibrix": lambda grounds: Aibrix(grounds, "aibrix", min),
    "aibrix-window": lambda grounds: Aibrix(grounds, "aibrix-window", max),
    "dynamo-sla": DynamoSla,
    **{name: partial(_replay, name) for name in FORESIGHT},
}
KNOWN = (JOINT, *RIVALS)


def rival(name: str, grounds: Grounds) -> Rival:
    """Return a fresh controller for one service.

    Raises:
        ValueError: no rival has this name, with those that have one.

    """
    try:
        make = RIVALS[name]
    except KeyError:
        known = ", ".join(RIVALS)
        raise ValueError(f"no rival policy is called {name!r}; there are {known}") from None
    return make(grounds)


def rivals(names: Sequence[str], grounds: Grounds) -> list[Rival]:
    """Return the rivals of these names, in this order, without the core's own ``joint``."""
    return [rival(name, grounds) for name in names if name != JOINT]
