"""What all sources together say: for each level the first that names it wins, and who lost is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.words import TOPOLOGY_LEVELS

CONFIGURATION = "configuration"
ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source says. An empty name says that there is no domain of that level."""

    source: str
    """In words: `configuration`, `file /etc/…`, `slurm node gpu17`."""
    levels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    """By level, more exactly than ``source``: which switch, which label."""
    problem: str = ""
    """Why it has no answer, or only an older one; empty: all is well."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the host stands, nearest level first."""

    levels: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Level to where its name came from, in words, with what it overruled."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Levels that a source says do not exist here, and which source that is."""
    problems: tuple[str, ...] = ()


def settle(answers: Sequence[Answer]) -> Found:
    """Return what ``answers``, the strongest first, say together."""
    levels, sources, removed = dict[str, str](), dict[str, str](), dict[str, str]()
    for level in TOPOLOGY_LEVELS:
        said = [answer for answer in answers if level in answer.levels]
        if not said:
            continue
        winner, others = said[0], said[1:]
        name, source = winner.levels[level], winner.details.get(level, winner.source)
        lost = [
            f"{other.source} says {other.levels[level] or 'there is none'}"
            for other in others
            if other.levels[level] != name
        ]
        words = "; ".join([source, *([f"overrules: {', '.join(lost)}"] if lost else [])])
        if name:
            levels[level], sources[level] = name, words
        else:
            removed[level] = words
    problems = tuple(f"{one.source}: {one.problem}" for one in answers if one.problem)
    return Found(levels, sources, removed, problems)
