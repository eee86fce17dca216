"""What a round's sums say beyond loss and metric; earlier rounds have nothing there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rounds", sa.Column("figures", sa.JSON))


def downgrade() -> None:
    op.drop_column("rounds", "figures")
