"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create documents by id, and the one row of facts."""
    document = sa.JSON().with_variant(JSONB(), "postgresql")
    for name in ("services", "instances", "commands", "inventories"):
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("document", document, nullable=False),
        )
    meta = op.create_table(
        "meta",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("last_now", sa.Double, nullable=False),
    )
    op.bulk_insert(meta, [{"id": 1, "epoch": 0, "last_now": 0.0}])
