"""A plant that is simple enough to be sure of: capacities, queues, and nothing lost unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.plant.port import Outcomes, Readings, Seat
from heteroscale_simulator.traffic.load import Floats, Load

PREFILL_RATE = 20_000.0
"""Prompt tokens/s of one prefill engine."""
DECODE_RATE = 2_000.0
"""Tokens/s of one decode engine."""
PROMPT, OUTPUT = 1000.0, 200.0
COUNTERS = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished"),
    *("requests_aborted", "ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
)


@dataclass
class _Table:
    """Engines by row; a removed one leaves no row."""

    ids: list[str] = field(default_factory=list)
    prefill: list[bool] = field(default_factory=list)
    open: Floats = field(default_factory=lambda: np.zeros(0))
    held: Floats = field(default_factory=lambda: np.zeros(0))
    counters: Floats = field(default_factory=lambda: np.zeros((0, len(COUNTERS))))


class ToyPlant:
    """The port ``Plant`` with every request alike."""

    def __init__(self) -> None:
        self._table = _Table()
        self._rows: dict[str, int] = {}
        self._queued = self.arrived = self.failed = self.finished = 0.0
        self.seconds = 0
        self.joined: list[str] = []
        self.lost = 0.0
        """Requests that were inside engines when they were removed."""

    def join(self, seat: Seat) -> None:
        table = self._table
        assert seat.instance_id not in self._rows
        self.joined.append(seat.instance_id)
        self._rows[seat.instance_id] = len(table.ids)
        table.ids.append(seat.instance_id)
        table.prefill.append(seat.role is Role.PREFILL)
        table.open = np.append(table.open, 0.0)
        table.held = np.append(table.held, 0.0)
        table.counters = np.vstack([table.counters, np.zeros(len(COUNTERS))])

    def open(self, instance_id: str) -> None:
        self._table.open[self._rows[instance_id]] = 1.0

    def close(self, instance_id: str) -> None:
        self._table.open[self._rows[instance_id]] = 0.0

    def remove(self, instance_id: str) -> None:
        table, row = self._table, self._rows[instance_id]
        self.lost += float(table.held[row])
        self.failed += float(table.held[row])
        del table.ids[row], table.prefill[row]
        table.open, table.held = np.delete(table.open, row), np.delete(table.held, row)
        table.counters = np.delete(table.counters, row, axis=0)
        self._rows = {name: row for row, name in enumerate(table.ids)}

    def held(self, instance_id: str) -> float:
        return float(self._table.held[self._rows[instance_id]])

    def advance(self, requests: Floats, input_tokens: Floats, output_tokens: Floats) -> None:
        table = self._table
        prefill = np.array(table.prefill, dtype=bool)
        self.seconds += 1
        number = float(requests.sum())
        self.arrived += number
        self._queued += number
        open_prefill, open_decode = (prefill & (table.open > 0)), (~prefill & (table.open > 0))
        if open_prefill.any():
            table.held[open_prefill] += self._queued / open_prefill.sum()
            self._queued = 0.0
        done = np.where(prefill, np.minimum(table.held, PREFILL_RATE / PROMPT), 0.0)
        if not open_decode.any():
            done[:] = 0.0
        self._count(done, prompt=True)
        served = np.where(prefill, 0.0, np.minimum(table.held, DECODE_RATE / OUTPUT))
        table.held -= done + served
        if open_decode.any():
            table.held[open_decode] += done.sum() / open_decode.sum()
        self._count(served, prompt=False)
        self.finished += float(served.sum())
        table.held[table.held < 1e-6] = 0.0

    def _count(self, done: Floats, *, prompt: bool) -> None:
        table = self._table
        add = np.zeros_like(table.counters)
        add[:, 3] = done
        if prompt:
            add[:, 0] = done
            add[:, 1] = add[:, 2] = done * PROMPT
            add[:, 5], add[:, 6] = done * (0.2 + table.held * PROMPT / PREFILL_RATE), done
        else:
            add[:, 0] = done * OUTPUT
            add[:, 7], add[:, 8] = done * OUTPUT * 0.02, done * OUTPUT
        table.counters += add

    def readings(self) -> Readings:
        table = self._table
        counters = {name: table.counters[:, k].copy() for k, name in enumerate(COUNTERS)}
        prefill = np.array(table.prefill, dtype=bool)
        running = np.minimum(table.held, np.where(prefill, PREFILL_RATE / PROMPT, 10.0))
        return Readings(
            ids=tuple(table.ids),
            running=running,
            waiting=table.held - running,
            transferring=np.zeros(len(table.ids)),
            kv_usage=np.minimum(1.0, running / 20),
            gpu_util=np.minimum(1.0, running / 10),
            sm_activity=np.minimum(1.0, running / 20),
            rdma_share=np.zeros(len(table.ids)),
            **counters,
        )

    def outcomes(self) -> Outcomes:
        def at_first(total: float) -> Floats:
            values = np.zeros(max(1, self.seconds))
            values[0] = total
            return values

        zero = np.zeros(max(1, self.seconds))
        return Outcomes(
            arrived=at_first(self.arrived),
            finished=at_first(self.finished),
            failed=at_first(self.failed),
            ttft_met=zero,
            tbt_met=zero,
            met=zero,
            ttft_sum=zero,
            first_tokens=zero,
            tbt_sum=zero,
            input_tokens=zero,
            output_tokens=zero,
        )


def steady(rates: Floats) -> Load:
    """Return a load of one class with so many requests in each second."""
    requests = np.asarray(rates, dtype=float).reshape(-1, 1)
    return Load(requests, requests * PROMPT, requests * OUTPUT)
