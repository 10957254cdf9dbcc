"""Which kinds of adapters are installed, and adapters made of what a document says."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points

from heteroscale_coordinator.edge.adapters.settings import AdapterSettings
from heteroscale_scheduler_adapters.port import Adapter, Create, SettingsError

GROUP = "heteroscale.scheduler_adapters"


def kinds() -> list[str]:
    """Return the names of the kinds that are installed, in order."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def create(settings: AdapterSettings, where: str = "adapter") -> Adapter:
    """Return the adapter, not yet open.

    Raises:
        SettingsError: no such kind, a part of it is not installed, or its options cannot be meant.

    """
    found = next((p for p in entry_points(group=GROUP) if p.name == settings.kind), None)
    if found is None:
        near = get_close_matches(settings.kind, kinds(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        there = ", ".join(kinds()) or "none"
        raise SettingsError(
            f"{where}.kind: no adapter {settings.kind!r} is installed; {hint}there are: {there}"
        )
    try:
        made: Create = found.load()
    except ImportError as error:
        raise SettingsError(
            f"{where}.kind: adapter {settings.kind!r} lacks a package ({error}); "
            f"try: pip install 'heteroscale[{settings.kind}]'"
        ) from error
    try:
        return made(settings.name, settings.options)
    except SettingsError as error:
        raise SettingsError(f"{where}.options: {error}") from error


def create_all(every: Sequence[AdapterSettings]) -> list[tuple[str, Adapter]]:
    """Return each cluster's name and adapter; errors name the place in the document."""
    return [(one.name, create(one, f"adapters[{n}]")) for n, one in enumerate(every)]
