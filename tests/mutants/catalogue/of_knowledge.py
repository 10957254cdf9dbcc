"""Mistakes in what is known: unknown is not zero, silence is not death."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import core

MUTANTS = (
    core(
        "NaN is zero",
        "track.py",
        "_NAN, _INF = math.nan, math.inf",
        "_NAN, _INF = 0.0, math.inf",
        "test_track.py",
    ),
    core(
        "an unknown queue consents",
        "policy/consent.py",
        'return Consent(name, given=False, text="waiting unknown")',
        'return Consent(name, given=True, text="waiting unknown")',
        "policy/test_in.py",
    ),
    core(
        "engines that are not heard consent",
        "policy/consent.py",
        "bool(carrying) and steady >= HEARD_SHARE * carrying",
        "True",
        "policy/test_in.py",
    ),
    core(
        "a partition is counted as deaths",
        "silence.py",
        "    if len(silent) >= _LEAST:\n",
        "    if len(silent) < 0:\n",
        "turn",
    ),
    core(
        "a silent agent is dead at once",
        "silence.py",
        "agent.lost = agent.silent and _out_of_patience(draft, agent)",
        "agent.lost = agent.silent",
        "turn",
    ),
    core(
        "who was forgotten is never asked who it is",
        "fleet.py",
        "        draft.emit(AskHello(event.agent_id, event.incarnation))\n",
        "",
        "test_review_turn.py",
    ),
    core(
        "an older word is believed",
        "instance.py",
        "    if fact.generation < known.generation and known.voice == agent_id:\n",
        "    if fact.generation < 0:\n",
        "turn",
    ),
)
