"""What a GPU's own counters say of the work: GPU utilisation and SM activity, by role.

*GPU utilisation* (NVML) is the share of time in which any kernel ran. *SM activity* (DCGM's SM active)
is the share of SM-time with a warp resident. Both follow from how the two roles use the machine:

- Prefill computes for as long as it has prompts, then nothing runs: utilisation is its busy share, a
  straight line in load. While it computes, the large matrix products fill the SMs; of a short prompt
  the fixed part (launches, reading weights) leaves many idle: activity is the busy share times an
  occupancy that grows with the compute part of the prefill's time.
- Decode runs a loop for as long as one request is in it. With n requests on average, and arrivals at
  random, that is so for 1 − e^(−n) of the time (the number in an M/G/∞ queue is Poisson's). A few
  requests keep it near 1: that is why decode utilisation says nothing of load. Reading weights and KV
  keeps warps resident on most SMs even for one request (a memory-bound kernel waits with its warps in
  place); the compute part of the step, batch × seconds of compute a token ÷ step, fills the rest.

The two constants are our choice, in the range that DCGM shows for such kernels; only the order of the
signals' quality rests on the model, none of it on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
MEMORY_BOUND = 0.6
"""SM activity of a loop that only waits for memory."""
COMPUTE_BOUND = 0.95
"""SM activity of large matrix products."""
_LENGTHS = 2.0 ** np.arange(6, 15)


def compute_seconds(grid: SpeedGrid) -> Floats:
    """Return seconds of pure compute a token by GPU type: one token's part of the best prefill."""
    kinds = len(grid.kv_capacity)
    types = np.arange(kinds).repeat(len(_LENGTHS))
    lengths = np.tile(_LENGTHS, kinds)
    each = (grid.prefill_seconds(types, lengths) / lengths).reshape(kinds, -1)
    best: Floats = each.min(axis=1)
    return best


def sm_activity(running: Floats, compute: Floats) -> Floats:
    """Return SM activity where kernels run for ``running`` of the time, ``compute`` of it computing."""
    occupancy = MEMORY_BOUND + (COMPUTE_BOUND - MEMORY_BOUND) * np.minimum(compute, 1.0)
    active: Floats = running * occupancy
    return active


def decode_running(batch: Floats) -> Floats:
    """Return the share of time with a request in the loop, for a mean ``batch``."""
    share: Floats = -np.expm1(-np.maximum(batch, 0.0))
    return share
