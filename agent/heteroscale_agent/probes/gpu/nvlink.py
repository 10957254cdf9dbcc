"""Which GPUs of a host reach each other by NVLink, as NVML tells of each pair (`nvidia-smi topo -p2p n`).

With NVSwitch all do, with bridges the two of a pair; a GPU without any stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pynvml

from heteroscale_agent.probes.gpu.asking import quiet

Linked = Callable[[Any, Any], bool | None]
"""Whether two GPUs reach each other by NVLink; None: unknown."""


def linked(one: Any, other: Any) -> bool | None:
    """Return whether two of NVML's handles reach each other by NVLink; None: it does not tell."""
    told = quiet(pynvml.nvmlDeviceGetP2PStatus, one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if told is None or told == pynvml.NVML_P2P_STATUS_UNKNOWN:
        return None
    return bool(told == pynvml.NVML_P2P_STATUS_OK)


def groups(handles: Sequence[Any | None], ask: Linked = linked) -> list[int | None]:
    """Return each GPU's group, named by its first GPU; None where a pair may belong together or not.

    `handles` are None for GPUs that are not asked, and have no group. Who is reached over a third is of
    the group too.
    """
    first = list(range(len(handles)))
    doubtful: list[tuple[int, int]] = []
    asked = [place for place, handle in enumerate(handles) if handle is not None]
    for one, other in combinations(asked, 2):
        told = ask(handles[one], handles[other])
        if told is None:
            doubtful.append((one, other))
        elif told:
            low, high = sorted((first[one], first[other]))
            first = [low if home == high else home for home in first]
    apart = (pair for pair in doubtful if first[pair[0]] != first[pair[1]])
    unknown = {first[place] for pair in apart for place in pair}
    return [
        None if handle is None or home in unknown else home
        for handle, home in zip(handles, first, strict=True)
    ]
