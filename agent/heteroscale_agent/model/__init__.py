"""Readings, instances and commands as frozen values: what every room of the agent speaks of.

Nothing here knows the wire, a library or a clock. Unknown is ``None``, never zero. Times called
``…_at`` are seconds of the agent's own monotonic clock; ages and durations are seconds.
"""

from __future__ import annotations

from heteroscale_agent.model.commands import (
    Action,
    Command,
    CommandResult,
    Drain,
    Launch,
    Reinstate,
    SwitchRole,
    Terminate,
    Withdraw,
)
from heteroscale_agent.model.devices import (
    THROTTLE_HARDWARE,
    THROTTLE_HEAT,
    THROTTLE_OTHER,
    THROTTLE_POWER,
    Gpu,
    GpuProcess,
    GpuReading,
    HostReading,
    Inventory,
    Nic,
    NicReading,
    TemplateInfo,
)
from heteroscale_agent.model.engines import (
    EngineScrape,
    EngineState,
    LatencyReading,
)
from heteroscale_agent.model.instances import (
    Gate,
    InstanceEvent,
    InstanceStatus,
)
from heteroscale_agent.model.reports import (
    EngineReport,
    LatencyCounters,
    NicCounters,
    Report,
    RouterReport,
)
from heteroscale_agent.model.routers import RouterScrape

__all__ = [
    "THROTTLE_HARDWARE",
    "THROTTLE_HEAT",
    "THROTTLE_OTHER",
    "THROTTLE_POWER",
    "Action",
    "Command",
    "CommandResult",
    "Drain",
    "EngineReport",
    "EngineScrape",
    "EngineState",
    "Gate",
    "Gpu",
    "GpuProcess",
    "GpuReading",
    "HostReading",
    "InstanceEvent",
    "InstanceStatus",
    "Inventory",
    "LatencyCounters",
    "LatencyReading",
    "Launch",
    "Nic",
    "NicCounters",
    "NicReading",
    "Reinstate",
    "Report",
    "RouterReport",
    "RouterScrape",
    "SwitchRole",
    "TemplateInfo",
    "Terminate",
    "Withdraw",
]
