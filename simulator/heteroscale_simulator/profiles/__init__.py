"""Profiles of engines: what the simulated engine takes its times from.

A profile is named (``demo``, shipped here), a YAML file, or a folder with the three CSV tables. The
speeds of a model on a fleet's GPU types are found by ``profiles.catalogue``, and looked up for many
engines at once in ``profiles.speed_grid``; both stay out of here, because a simulated engine is a
process of its own that needs neither numpy nor the core.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from heteroscale.documents import DocumentError, Violation, read_documents
from heteroscale_simulator.profiles.hardware import Hardware, hardware, short_name
from heteroscale_simulator.profiles.model import (
    DISTANCES,
    Distance,
    EngineProfile,
    GpuProfile,
    LinkProfile,
    ProfileDocument,
    RangeError,
    TransferProfile,
)
from heteroscale_simulator.profiles.tables import Selection, read_tables

__all__ = [
    "DISTANCES",
    "Distance",
    "EngineProfile",
    "GpuProfile",
    "Hardware",
    "LinkProfile",
    "RangeError",
    "Selection",
    "TransferProfile",
    "hardware",
    "load_profile",
    "parse_profile",
    "read_tables",
    "shipped_profiles",
    "short_name",
]


def shipped_profiles() -> list[str]:
    """Return the names of the profiles that come with the simulator."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def parse_profile(text: str, file: str) -> EngineProfile:
    """Return the one profile in ``text``.

    Raises:
        DocumentError: with file, line and field of everything that is wrong.

    """
    documents = read_documents(text, file)
    if len(documents) != 1:
        message = f"a profile is one document, not {len(documents)}"
        raise DocumentError([Violation(file, 1, "", message)])
    return documents[0].parse(ProfileDocument).spec


def load_profile(source: str, selection: Selection | None = None) -> EngineProfile:
    """Return the profile ``source`` names: a shipped one, a YAML file, or a folder of tables.

    ``selection`` is needed for a folder, and ignored otherwise.

    Raises:
        DocumentError: the YAML is wrong.
        ValueError: no such profile, or the tables are wrong.

    """
    if source in shipped_profiles():
        name = f"{source}.yaml"
        return parse_profile((resources.files(__name__) / name).read_text("utf-8"), name)
    path = Path(source)
    if path.is_dir():
        if selection is None:
            raise ValueError(f"{source} is a folder of tables: say which model")
        return read_tables(path, selection)
    try:
        return parse_profile(path.read_text("utf-8"), source)
    except OSError as error:
        shipped = ", ".join(shipped_profiles())
        raise ValueError(f"{source}: {error.strerror} (shipped profiles: {shipped})") from error
