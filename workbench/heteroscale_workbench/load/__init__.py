"""Open-loop load: requests leave at their time, whether or not earlier ones were answered.

``traces`` read recorded arrivals · ``shapes`` make them up · ``sse`` understands a stream without
parsing each token · ``client`` sends one request and judges it · ``run`` the whole of it, with live
snapshots and a report.
"""

from __future__ import annotations

from heteroscale_simulator.traffic.traces import Arrival, Scaling, TraceError, read_trace, scale
from heteroscale_workbench.load.client import Failure, FailureKind
from heteroscale_workbench.load.report import LoadOptions, LoadReport, Snapshot
from heteroscale_workbench.load.run import LoadRun
from heteroscale_workbench.load.shapes import Curve, Lengths, generate

__all__ = [
    "Arrival",
    "Curve",
    "Failure",
    "FailureKind",
    "Lengths",
    "LoadOptions",
    "LoadReport",
    "LoadRun",
    "Scaling",
    "Snapshot",
    "TraceError",
    "generate",
    "read_trace",
    "scale",
]
