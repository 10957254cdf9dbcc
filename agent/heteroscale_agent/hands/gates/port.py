"""What every kind of gate promises: one level-triggered pass that compares, corrects and reports.

A pass never assumes that what it asked for has happened: it says what it *saw*. The next pass,
a moment later, sees the effect. So a router that restarted, or a second one, heals by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from heteroscale.words import Role
from heteroscale_agent.model import Gate


@dataclass(frozen=True, slots=True)
class Member:
    """An instance as gates know it."""

    instance_id: str
    service: str
    role: Role
    endpoint: str
    bootstrap_port: int | None
    gate: Gate
    origin: str = ""
    """Who runs its process when not this agent, e.g. `pod/NAMESPACE/NAME`."""


@dataclass(frozen=True, slots=True)
class View:
    """What each place said: True in, False out, None unknown. An empty view confirms both."""

    places: Mapping[str, bool | None]
    message: str = ""

    @property
    def all_in(self) -> bool:
        """Every place was seen to let traffic in."""
        return all(seen is True for seen in self.places.values())

    @property
    def some_in(self) -> bool:
        """At least one place was seen to let traffic in, or there is none to ask."""
        return not self.places or any(seen is True for seen in self.places.values())

    @property
    def kept_out_by(self) -> tuple[str, ...]:
        """The places that answered when none was seen to let traffic in; silent ones say nothing."""
        if self.some_in:
            return ()
        return tuple(place for place, seen in self.places.items() if seen is False)

    @property
    def all_out(self) -> bool:
        """Every place was seen to keep traffic out."""
        return all(seen is False for seen in self.places.values())


class GateKind(Protocol):
    """One kind of gate, shared by all instances that use it."""

    def complaint(self, member: Member) -> str:
        """Return why this gate cannot serve ``member`` (its settings), or nothing."""
        ...

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Look, correct what differs, and return what was seen *before* correcting.

        Never raises for a place that fails or answers nonsense: that is None, with a message.
        Takes no longer than a few seconds.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; gates stay as they are."""
        ...
