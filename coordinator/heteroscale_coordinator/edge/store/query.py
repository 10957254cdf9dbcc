"""What of the record of decisions is asked for, and what comes back (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heteroscale_coordinator.core.model import Action, Decision


class PageError(ValueError):
    """The record no longer knows where the page begins."""


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Narrows the record; what is empty narrows nothing. Times in seconds since 1970."""

    service: str = ""
    limit: int = 20
    since: float | None = None
    """Only runs that went on at this time or later."""
    until: float | None = None
    """Only runs that began before this time."""
    actions: tuple[str, ...] = ()
    bound_by: tuple[str, ...] = ()
    only: Literal["", "acted", "advice"] = ""
    """`acted`: what was done; `advice`: what would have been, in advisory mode or a pause."""
    instance: str = ""
    """Only what concerned this instance: an id, or the beginning of one."""
    after: str = ""
    """Only what is older than the decision with this id: the next page."""

    def matches(self, decision: Decision) -> bool:
        """Return whether a decision is asked for, ``after`` aside."""
        return (
            self.service in ("", decision.service)
            and (self.since is None or last_of(decision) >= self.since)
            and (self.until is None or decision.at < self.until)
            and (not self.actions or decision.action.value in self.actions)
            and (not self.bound_by or decision.bound_by in self.bound_by)
            and self._is_of_kind(decision)
            and (
                not self.instance or any(i.startswith(self.instance) for i in decision.instance_ids)
            )
        )

    def _is_of_kind(self, decision: Decision) -> bool:
        if not self.only:
            return True
        does = decision.action is not Action.HOLD
        return does and decision.advisory == (self.only == "advice")


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """Decisions, newest first."""

    decisions: tuple[Decision, ...] = ()
    next_after: str = ""
    """The ``after`` of the next page; empty: this is the last."""


def last_of(decision: Decision) -> float:
    """Return when a decision was last taken."""
    return decision.last_at or decision.at


def page_of(found: list[Decision], limit: int) -> DecisionPage:
    """Return the page of ``found``, which was read for one more than ``limit``."""
    shown = tuple(found[:limit])
    more = len(found) > limit and bool(shown)
    return DecisionPage(shown, shown[-1].decision_id if more else "")
