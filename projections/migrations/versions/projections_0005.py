"""On which version of a plugin, and which pipeline, each event runs."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0005"
down_revision = "projections_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; runs of which nothing is recorded have none."""
    op.add_column("webhook_events", sa.Column("runs_on", sa.String()))


def downgrade() -> None:
    """Back to events without a version."""
    op.drop_column("webhook_events", "runs_on")
