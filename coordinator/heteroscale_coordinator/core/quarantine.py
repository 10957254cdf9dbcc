"""A service's part of a turn, on its own: one that raises is quarantined, and the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace

from heteroscale_coordinator.core.draft import Draft


def alone(draft: Draft, name: str, part: Callable[[Draft], None]) -> None:
    """Do a service's part on a draft of its own, merged only when it is whole."""
    mine = draft.nested()
    try:
        part(mine)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the others
        mine.drop()
        quarantine(draft, name, error)
    else:
        mine.merge()


def quarantine(draft: Draft, name: str, error: Exception) -> None:
    """Leave a service alone from now on, and say what it raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    service = draft.service(name)
    if service is not None:
        draft.put_service(replace(service, quarantine=text))
