"""Taints of nodes, as Kubernetes has them: what keeps away whoever does not tolerate it.

Pure values, shared by the agent that tells them and the coordinator that heeds them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_TAINT = re.compile(rf"((?:[a-z0-9.-]{{1,253}}/)?{_WORD})(?:=({_WORD})?)?:([A-Za-z]+)")


class TaintEffect(StrEnum):
    """What a taint does to those who do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    """Nothing new is placed there."""
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    """Something new is placed there only where there is no other place."""
    NO_EXECUTE = "NoExecute"
    """Nothing new is placed there, and what runs there leaves."""


class Taint(NamedTuple):
    """One taint of a node; as text ``key=value:effect``, without a value ``key:effect``."""

    key: str
    value: str
    effect: TaintEffect

    def __str__(self) -> str:
        """Return it as it is written."""
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


Taints = tuple[Taint, ...]
"""Those of one node, in order, none twice."""


def parse_taint(text: str) -> Taint:
    """Return the taint that ``key=value:effect`` or ``key:effect`` means.

    Raises:
        ValueError: it is none.

    """
    found = _TAINT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no taint: write key=value:NoSchedule or key:NoSchedule")
    key, value, effect = found.groups()
    try:
        return Taint(key, value or "", TaintEffect(effect))
    except ValueError:
        known = ", ".join(TaintEffect)
        raise ValueError(f"{text!r}: {effect} is no effect of a taint; there are {known}") from None


TaintText = Annotated[str, AfterValidator(lambda text: str(parse_taint(text)))]
"""A field of a document: one taint."""
