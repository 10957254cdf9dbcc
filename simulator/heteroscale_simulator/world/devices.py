"""What the twin of a host's agent says of its GPUs and ports: what runs there, in whole percent."""

from __future__ import annotations

from math import isnan

from heteroscale_coordinator.core.devices import UNTOLD, GpuSample, KnownDevices, NicSample


class TwinDevices(KnownDevices):
    """The devices of one report. GPUs that no engine of the host speaks for say nothing."""

    def __init__(self, gpus: int) -> None:
        super().__init__()
        self._utilization = bytearray([UNTOLD] * gpus)
        self._activity = bytearray([UNTOLD] * gpus)
        self._share = UNTOLD

    def see(self, gpus: tuple[int, ...], told: tuple[float, float, float]) -> None:
        """Take in the readings of the engine on these GPUs: utilisation, SM activity, RDMA share.

        NaN is not told.
        """
        busy, active, share = (UNTOLD if isnan(value) else round(100 * value) for value in told)
        for index in gpus:
            self._utilization[index], self._activity[index] = busy, active
        if share != UNTOLD:
            self._share = share if self._share == UNTOLD else max(self._share, share)

    @property
    def utilization(self) -> bytes:
        """GPU utilisation of each GPU in percent."""
        return bytes(self._utilization)

    @property
    def sm_activity(self) -> bytes:
        """SM activity of each GPU in percent."""
        return bytes(self._activity)

    @property
    def port_share(self) -> int:
        """Share of the busiest port in percent."""
        return self._share

    def gpus(self) -> tuple[GpuSample, ...]:
        """Return the GPUs as others show them."""
        pairs = zip(self._utilization, self._activity, strict=True)
        return tuple(
            GpuSample(utilization_percent=_known(busy), sm_activity_percent=_known(active))
            for busy, active in pairs
        )

    def nics(self) -> tuple[NicSample, ...]:
        """Return the host's port."""
        known = _known(self._share)
        return (NicSample(active=True, share=None if known is None else known / 100),)


def _known(percent: int) -> int | None:
    return None if percent == UNTOLD else percent
