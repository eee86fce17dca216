"""Joining, consent and withdrawal; the head row of the event chain; fencing numbers of leases."""

import sqlalchemy as sa
from alembic import op

from coordinator.registry.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("chain_head", "withdrawals", "answers", "vouchers", "rotations", "join_requests", "invitations")
COLUMNS = {
    "participants": ("node_key", "certificate_sha256", "revoked_at", "revoked_reason"),
    "contributions": ("reason",),
    "model_versions": ("withdrawn_at", "withdrawn_reason"),
    "leases": ("fence",),
}
STATES = ("waiting", "approved", "refused")


def upgrade() -> None:
    _add_columns()
    _create_joining()
    _create_keys()
    _create_consent()
    op.create_table(
        "chain_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.CheckConstraint("id = 1", name="one"),
    )
    _fill_head()


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    op.drop_index("ix_participants_certificate_sha256", "participants")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)


def _fill_head() -> None:
    events = sa.table("events", sa.column("sequence", sa.Integer), sa.column("hash", sa.String))
    last = op.get_bind().execute(sa.select(events).order_by(events.c.sequence.desc()).limit(1)).first()
    head = sa.table("chain_head", sa.column("id", sa.Integer), sa.column("length", sa.Integer), sa.column("hash", sa.String))
    length, digest = (0, "0" * 64) if last is None else (last.sequence, last.hash)
    op.execute(head.insert().values(id=1, length=length, hash=digest))


def _add_columns() -> None:
    op.add_column("participants", sa.Column("node_key", sa.Text))
    op.add_column("participants", sa.Column("certificate_sha256", sa.String(64)))
    op.create_index("ix_participants_certificate_sha256", "participants", ["certificate_sha256"], unique=True)
    op.add_column("participants", sa.Column("revoked_at", UtcDateTime))
    op.add_column("participants", _empty_text("revoked_reason"))
    op.add_column("contributions", _empty_text("reason"))
    op.add_column("model_versions", sa.Column("withdrawn_at", UtcDateTime))
    op.add_column("model_versions", _empty_text("withdrawn_reason"))
    op.add_column("leases", sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"))


def _empty_text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _create_joining() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("certificate_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("used_at", UtcDateTime),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "join_requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("identity_key", sa.String(64), nullable=False),
        sa.Column("node_key", sa.Text, nullable=False),
        sa.Column("csr", sa.Text, nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("requested_at", UtcDateTime, nullable=False),
        sa.Column("state", sa.Enum(*STATES, name="joinstate", native_enum=False, length=16, create_constraint=True), nullable=False),
    )


def _create_keys() -> None:
    op.create_table(
        "rotations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("old_key", sa.String(64), nullable=False),
        sa.Column("new_key", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "vouchers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("by_participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("subject", "public_key", "by_participant_id"),
    )


def _create_consent() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("run_id", "participant_id"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id")),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
