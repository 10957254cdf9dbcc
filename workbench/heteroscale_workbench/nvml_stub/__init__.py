"""Simulated GPUs behind the real NVML binding: a C stub of the driver's library and its state.

`build` compiles the stub; `StubState` writes what it shows. An agent uses it when its
configuration names the library and `STATE_VARIABLE` its state file:

    library = build(directory)
    StubState(directory / "gpus.state", [StubGpu(name="NVIDIA H20")]).write()
"""

from __future__ import annotations

from heteroscale_workbench.nvml_stub.build import BuildError, build
from heteroscale_workbench.nvml_stub.state import (
    GPU_IS_LOST,
    STATE_VARIABLE,
    UNKNOWN_ERROR,
    StubGpu,
    StubMig,
    StubState,
)

__all__ = [
    "GPU_IS_LOST",
    "STATE_VARIABLE",
    "UNKNOWN_ERROR",
    "BuildError",
    "StubGpu",
    "StubMig",
    "StubState",
    "build",
]
