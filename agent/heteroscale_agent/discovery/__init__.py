"""Engines that run here and that nobody configured: found, watched, and never commanded.

    pods · jobs · processes ─▶ sightings ─▶ merge (one engine, one sighting) ─▶ witness ─▶ registry

Each source is asked by itself, in its own time, and what it said last holds while it fails. Ids are
made of what lasts (a pod's uid, a job's number, a process's start), so that whoever finds an engine
first, it keeps its name.
"""

from __future__ import annotations

from heteroscale_agent.discovery.finder import Finder
from heteroscale_agent.discovery.witness import Witness

__all__ = ["Finder", "Witness"]
