"""Control states beside the embedded broker."""

import sqlalchemy as sa
from alembic import op

revision = "system_0003"
down_revision = "system_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of control states."""
    op.create_table(
        "control_states",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("subject", sa.String(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String()),
        sa.Column("reason", sa.Text()),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("control_states")
