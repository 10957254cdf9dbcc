"""Mistakes in what the agent promises."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import agent

MUTANTS = (
    agent(
        "the lease is ignored",
        "leases.py",
        "if renewable(record) and lease_until_at is not None and now >= lease_until_at:",
        "if False:",
        "test_life_leases.py",
    ),
    agent(
        "a drain waits for nothing",
        "quiescence.py",
        "    if in_flight != 0:\n",
        "    if in_flight < 0:\n",
        "test_quiescence.py",
        "test_life_drain.py",
    ),
    agent(
        "an unknown queue is an empty one, to a drain",
        "quiescence.py",
        "    if in_flight is None:\n",
        "    in_flight = in_flight or 0.0\n    if in_flight is None:\n",
        "test_quiescence.py",
    ),
    agent(
        "a drain does not wait for the routers",
        "quiescence.py",
        "    if not gate_closed:\n",
        "    if gate_closed is None:\n",
        "test_quiescence.py",
    ),
    agent(
        "a stale generation is accepted",
        "executor.py",
        "if command.expected_generation != record.generation:",
        "if command.expected_generation > record.generation + 1_000:",
        "test_executor.py",
    ),
    agent(
        "an order past its deadline is carried out",
        "executor.py",
        "        if late > 0:\n",
        "        if late > 1e9:\n",
        "test_executor.py",
    ),
    agent(
        "an older epoch is obeyed",
        "executor.py",
        "        if command.epoch < heard:\n",
        "        if command.epoch < 0:\n",
        "test_executor.py",
    ),
)
