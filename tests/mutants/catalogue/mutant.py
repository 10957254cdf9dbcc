"""What a mistake is, and short ways to write one down.

A mutant is a snippet of a module that occurs there exactly once, what it becomes, and the fast tests
that should see it. When code moves on, its mutant fails with the snippet that is no longer there:
find the rule's new place, and make the same mistake there.
"""

from __future__ import annotations

from dataclasses import dataclass

CORE = "coordinator/heteroscale_coordinator/core"
AGENT = "agent/heteroscale_agent"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``tests`` are files, or node ids, of which one at least must fail."""

    name: str
    module: str
    """From the repository's root."""
    snippet: str
    becomes: str
    tests: tuple[str, ...]
    claim: str = ""
    """The claim of the state machine that must be what is broken (``tests.core.machine.claims``)."""


def core(name: str, module: str, snippet: str, becomes: str, *tests: str) -> Mutant:
    """Return a mistake in the core, and the tests of ``tests/core`` that see it."""
    places = tuple(f"tests/core/{test}" for test in tests)
    return Mutant(name, f"{CORE}/{module}", snippet, becomes, places)


def claim(broken: str, module: str, snippet: str, becomes: str, story: str) -> Mutant:
    """Return the mistake that breaks a claim in one of the machine's fixed stories."""
    place = f"tests/core/machine/test_stories.py::test_{story}"
    name = f"not so in {story.replace('_', ' ')}: {broken}"
    return Mutant(name, f"{CORE}/{module}", snippet, becomes, (place,), broken)


def agent(name: str, module: str, snippet: str, becomes: str, *tests: str) -> Mutant:
    """Return a mistake in the agent, and the tests of ``tests/agent`` that see it."""
    places = tuple(f"tests/agent/{test}" for test in tests)
    return Mutant(name, f"{AGENT}/{module}", snippet, becomes, places)
