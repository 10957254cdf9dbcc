"""What an agent within a job stands for, and what it was told of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from heteroscale_agent.allowlist import RefusedError
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands.process import Order
from heteroscale_agent.model import Command, Drain, Gpu, Launch

_MOST_GRACE = 30.0
_SHARE_OF_GRACE = 0.25
_SETTLE = 5.0
_SHARE_OF_SETTLE = 0.1
_QUIET_SCRAPES = 3
_DEAF = ("/bin/sh", "-c", 'trap "" USR1; exec "$@"', "sh")
"""Becomes what follows it: what is ignored stays so over an exec."""
_SLACK = 2.0
"""Seconds kept for the end itself: KILL, the last word to the coordinator."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The one rank that a job was submitted for."""

    instance_id: str
    rank: int
    within: str
    """The node as the coordinator calls it: ``<cluster>/<node>``."""
    devices: tuple[str, ...] | None = None
    """GPUs of the job, as CUDA_VISIBLE_DEVICES lists them (indices, or starts of uuids); None: all that
    the driver shows here."""
    leave_within: float = 110.0
    """Seconds from the signal to the last KILL."""
    wait: float = 600.0
    """Seconds that it waits for its launch."""

    def taken(self, gpus: Sequence[Gpu], count: int) -> tuple[int, ...]:
        """Return the indices of the first ``count`` GPUs of the job; fewer where it has fewer."""
        if self.devices is not None:
            found = [_index(device, gpus) for device in self.devices]
        else:
            found = [gpu.index for gpu in gpus] or list(range(count))
        return tuple(found[:count])

    def drain(self, *, at_once: bool = False) -> Drain:
        """Return how its instance is emptied when its job ends."""
        grace = min(_MOST_GRACE, self.leave_within * _SHARE_OF_GRACE)
        return Drain(
            lease=0.0,
            settle_time=min(_SETTLE, self.leave_within * _SHARE_OF_SETTLE),
            quiet_scrapes=_QUIET_SCRAPES,
            force_after=0.0 if at_once else max(0.0, self.leave_within - grace - _SLACK),
            grace=grace,
        )


@dataclass(slots=True)
class Post:
    """A claim, and how it goes; owned by the event loop."""

    claim: Claim
    dismissed: str = ""
    """Why nobody needs it any more, in words."""
    refused: str = ""
    """Why this agent did not start what it is there for, in words."""
    signals: int = 0
    """How often it was told to end."""
    over: bool = False
    """It ends; only the last words are still on their way."""

    @property
    def leaving(self) -> bool:
        """Whether its job is about to end."""
        return self.signals > 0

    def shielded(self, launch: Launch, ready: Order) -> Order:
        """Return ``ready`` deaf to USR1, where the scheduler sends it to all that a job's step runs."""
        if launch.rank_count == 1:
            return ready
        return replace(ready, command=[*_DEAF, *ready.command])

    def ordered(
        self, spec: AgentSpec, command: Command, launch: Launch, gpus: Sequence[Gpu]
    ) -> Launch:
        """Return ``launch`` on the GPUs of the job.

        Raises:
            RefusedError: it is for another, or too late.

        """
        claim = self.claim
        if (command.instance_id, launch.rank) != (claim.instance_id, claim.rank):
            raise RefusedError(
                f"this agent stands for rank {claim.rank} of {claim.instance_id} alone"
            )
        if self.leaving or self.over:
            raise RefusedError("its job is about to end")
        template = spec.templates.get(launch.template)
        if launch.gpu_indices or template is None:
            return launch
        return replace(launch, gpu_indices=claim.taken(gpus, template.gpus))


def _index(device: str, gpus: Sequence[Gpu]) -> int:
    if device.isdecimal():
        return int(device)
    for gpu in gpus:
        if gpu.uuid.startswith(device) or gpu.visible == device:
            return gpu.index
    raise RefusedError(f"the job was given GPU {device!r}, and the driver shows no such GPU here")
