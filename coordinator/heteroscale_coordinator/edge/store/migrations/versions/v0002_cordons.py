"""What operators cordoned."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the cordons' table: documents by id, as the others are."""
    document = sa.JSON().with_variant(JSONB(), "postgresql")
    op.create_table(
        "cordons",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("document", document, nullable=False),
    )
