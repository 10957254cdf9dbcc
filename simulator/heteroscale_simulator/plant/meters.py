"""What the engines' metrics and the GPUs' counters say: the plant's state as an agent reads it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heteroscale_simulator.plant import decode as d
from heteroscale_simulator.plant.cohorts import COMPUTED, COUNT, INPUT, PREFILLED
from heteroscale_simulator.plant.decode import Decode
from heteroscale_simulator.plant.hardware import compute_seconds, decode_running, sm_activity
from heteroscale_simulator.plant.port import Readings
from heteroscale_simulator.plant.prefill import Prefill
from heteroscale_simulator.plant.ring import Ints
from heteroscale_simulator.plant.slots import Slots
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Columns = dict[str, Floats]


class Meters:
    """Reads; keeps what no counter may do: go back."""

    def __init__(self, prefill: SpeedGrid, decode: SpeedGrid) -> None:
        self._prefill = prefill
        self._decode = decode
        self._compute = compute_seconds(prefill), compute_seconds(decode)
        self._generated: dict[str, float] = {}

    def read(
        self,
        prefills: tuple[Sequence[str], Ints],
        decodes: Sequence[str],
        work: tuple[Prefill, Slots],
        decode: Decode,
        links: float,
    ) -> Readings:
        """Return the readings of ``prefills`` (names and slots), then of ``decodes`` (by place).

        ``links`` is the load of those that carry KV.
        """
        names, slots = prefills
        first = self._of_prefill(*work, slots)
        second = self._of_decode(decode, decodes, float(first["transferring"].sum()))
        columns = {key: np.concatenate((first[key], second[key])) for key in first}
        share = np.full(len(names) + len(decodes), min(links, 1.0))
        return Readings(ids=[*names, *decodes], rdma_share=share, **columns)

    def _of_prefill(self, prefill: Prefill, slots: Slots, at: Ints) -> Columns:
        counters, types, opened = slots.counters[at], slots.types[at], slots.open[at]
        held, shares, zeros = (
            slots.held(prefill.shifts)[at],
            slots.queue_shares()[at],
            np.zeros(len(at)),
        )
        # A closed engine works on what it holds.
        busy = np.where(opened, prefill.busy, np.minimum(held[:, COUNT], 1.0))
        running = np.where(opened, prefill.busy * prefill.together, held[:, COUNT])
        tokens = np.where(opened, prefill.holding * shares, held[:, INPUT])
        compute = zeros
        if prefill.price is not None:
            per_token = np.maximum(prefill.price.seconds_per_token, 1e-12)
            compute = (self._compute[0] / per_token)[types]
        return {
            "generation_tokens": counters[:, COUNT],
            "prompt_tokens": counters[:, INPUT],
            "computed_prompt_tokens": counters[:, COMPUTED],
            "requests_finished": counters[:, COUNT],
            "requests_aborted": zeros,
            "running": running,
            "waiting": prefill.backlog.requests * shares,
            "transferring": prefill.fetching * shares,
            "kv_usage": np.minimum(tokens / self._prefill.kv_capacity[types], 1.0),
            "ttft_sum": counters[:, PREFILLED],
            "ttft_count": counters[:, COUNT],
            "tbt_sum": zeros,
            "tbt_count": zeros,
            "gpu_util": busy,
            "sm_activity": sm_activity(busy, compute),
        }

    def _of_decode(self, decode: Decode, names: Sequence[str], carried: float) -> Columns:
        counters, batch = decode.counters, decode.batch
        zeros = np.zeros(len(names))
        shares = decode.queue_shares()
        running = decode_running(batch)
        compute = self._compute[1][decode.types] * batch / np.maximum(decode.steps, 1e-9)
        return {
            "generation_tokens": self._monotone(names, decode.generated),
            "prompt_tokens": counters[d.RECEIVED].copy(),
            "computed_prompt_tokens": zeros,
            "requests_finished": counters[d.ENDED].copy(),
            "requests_aborted": zeros,
            "running": batch.copy(),
            "waiting": decode.waiting * shares,
            "transferring": carried * shares,
            "kv_usage": np.minimum(decode.resident / decode.capacity, 1.0),
            "ttft_sum": zeros,
            "ttft_count": zeros,
            "tbt_sum": counters[d.TBT_SUM].copy(),
            "tbt_count": counters[d.TBT_COUNT].copy(),
            "gpu_util": running,
            "sm_activity": sm_activity(running, compute),
        }

    def _monotone(self, names: Sequence[str], tokens: Floats) -> Floats:
        """Keep the counter from going back where a bucket's end corrects it."""
        before = [self._generated.get(name, 0.0) for name in names]
        risen: Floats = np.maximum(tokens, before) if len(names) else tokens
        self._generated = dict(zip(names, risen.tolist(), strict=True))
        return risen
