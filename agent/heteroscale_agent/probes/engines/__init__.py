"""Reads engines by the mapping files of `heteroscale.engines`, where their metrics are named."""

from __future__ import annotations

from heteroscale.engines import MAPPINGS

__all__ = ["MAPPINGS"]
