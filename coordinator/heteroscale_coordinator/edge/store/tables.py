"""The tables, for SQLite and PostgreSQL alike: one JSON document a row, and one row of facts.

Changed only together with a new file in ``migrations/versions``.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData()
Document = sa.JSON().with_variant(JSONB(), "postgresql")


def _documents(name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("document", Document, nullable=False),
    )


services = _documents("services")
instances = _documents("instances")
commands = _documents("commands")
inventories = _documents("inventories")
cordons = _documents("cordons")
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("last_now", sa.Double, nullable=False),
)
