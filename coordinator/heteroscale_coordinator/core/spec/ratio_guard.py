"""How Ready prefill and decode are kept in step."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration


class RatioGuardSpec(DocumentModel):
    """How Ready prefill and decode are kept in step when a step of both starts out of order."""

    hold: bool = True
    """Whether new instances of the role that is not short wait, Ready and out of the routers, until
    the other role has caught up. Off: each goes into service as soon as it is Ready."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.20
    """How far Ready prefill ÷ decode may stray from `ratio`, as a share of it, before any wait. Too
    small holds back what could serve; too large lets the faster role flood the slower."""
    deadline: Duration = 60.0
    """None waits longer than this. Without a word from the coordinator its agent ends the wait."""
    switch_roles: bool = False
    """Where one role is short and the other has some to spare, one running instance changes its role,
    instead of a launch and a withdrawal. Only engines whose template says `roleSwitch` can."""
    switch_cooldown: Annotated[Duration, Field(gt=0)] = 600.0
    """From one change of a role to the next; doubled, up to 8 times, by each that failed in a row."""
