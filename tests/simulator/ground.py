"""A small profile with round numbers, and seats, for tests of the plant and of the event simulation."""

from __future__ import annotations

from heteroscale.words import Role
from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.profiles import EngineProfile, GpuProfile, LinkProfile, TransferProfile
from heteroscale_simulator.profiles.model import DecodeTable, PrefillTable


def profile(*, kv_capacity: int = 200_000, max_batch: int = 64) -> EngineProfile:
    """Return one GPU type, G: 10,000 prompt tokens/s; a step of 10 ms + 0.25 ms a request."""
    batches = (1.0, 16.0, 64.0)
    link = LinkProfile(gigabytes_per_second=50, latency_ms=1)
    return EngineProfile(
        kv_bytes_per_token=100_000,
        transfer=TransferProfile(s0=link, s1=link, s2=link, cluster=link),
        gpus={
            "G": GpuProfile(
                kv_capacity_tokens=kv_capacity,
                max_batch=max_batch,
                max_prefill_tokens=2048,
                startup=10,
                prefill=PrefillTable(lengths=(1, 262_144), ms=(0.1, 26_214.4)),
                decode=DecodeTable(
                    batches=batches,
                    contexts=(1, 262_144),
                    step_ms=tuple((10 + batch / 4,) * 2 for batch in batches),
                ),
            )
        },
    )


def seats(prefill: int, decode: int) -> list[Seat]:
    """Return seats of type G, each on a node of its own, all in one S1."""
    kinds = [Role.PREFILL] * prefill + [Role.DECODE] * decode
    return [
        Seat(f"{role}-{n}", role, "G", 1, {"s0": f"node-{n}", "s1": "a", "s2": "a"})
        for n, role in enumerate(kinds)
    ]
