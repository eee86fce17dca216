"""The first tables, and the triggers that keep events append-only."""

import sqlalchemy as sa
from alembic import op

from coordinator.registry.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RUN_STATES = ("submitted", "accepting", "running", "paused", "finished", "failed", "stopped")
WANTED_STATES = ("running", "paused", "stopped")
TABLES = ("privacy_spend", "contributions", "model_versions", "rounds", "runs", "participants", "leases", "events")

# A replaced row would pass the triggers on update and delete (INSERT OR REPLACE deletes silently), hence the one on insert.
SQLITE_TRIGGERS = """
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
CREATE TRIGGER events_in_order BEFORE INSERT ON events WHEN NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM events) \
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
"""
POSTGRESQL_TRIGGERS = """
CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()
"""


def upgrade() -> None:
    _create_events()
    _create_parties()
    _create_runs()
    _create_rounds()
    _create_parts_of_rounds()
    _create_model_versions()
    triggers = {"sqlite": SQLITE_TRIGGERS, "postgresql": POSTGRESQL_TRIGGERS}
    for statement in triggers.get(op.get_bind().dialect.name, "").strip().splitlines():
        op.execute(statement)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_event_change()")


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("run", sa.String(80), index=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )


def _create_parties() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "participants",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("joined_at", UtcDateTime, nullable=False),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run", sa.String(80), nullable=False, unique=True),
        sa.Column("plan_name", sa.String(64), nullable=False),
        sa.Column("plan_sha256", sa.String(64), nullable=False, index=True),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("base_sha256", sa.String(64), nullable=False),
        sa.Column("terms_sha256", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("rounds", sa.Integer, nullable=False),
        sa.Column("metric", sa.String(32), nullable=False),
        sa.Column("higher_is_better", sa.Boolean, nullable=False),
        sa.Column("state", _one_of("runstate", RUN_STATES), nullable=False),
        sa.Column("wanted", _one_of("wantedstate", WANTED_STATES), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime),
    )


def _create_rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state_sha256", sa.String(64), nullable=False),
        sa.Column("transcripts", sa.JSON, nullable=False),
        sa.Column("experts", sa.JSON),
        sa.Column("loss", sa.Double),
        sa.Column("metric", sa.Double),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("finished_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("run_id", "number"),
        sa.CheckConstraint("number >= 0", name="number"),
    )


def _create_parts_of_rounds() -> None:
    op.create_table(
        "contributions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id"), nullable=False),
        sa.Column("participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("bytes_up", sa.BigInteger, nullable=False),
        sa.Column("bytes_down", sa.BigInteger, nullable=False),
        sa.Column("missing_from", sa.String(64)),
        sa.UniqueConstraint("round_id", "participant_id"),
    )
    op.create_table(
        "privacy_spend",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id"), nullable=False),
        sa.Column("participant_id", sa.Integer, sa.ForeignKey("participants.id"), nullable=False),
        sa.Column("epsilon", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.UniqueConstraint("round_id", "participant_id"),
    )


def _create_model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("transcript_sha256", sa.String(64), nullable=False),
        sa.Column("signer", sa.String(64), nullable=False),
        sa.Column("metric", sa.Double),
        sa.Column("released_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("name", "version"),
    )


def _one_of(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, length=16, create_constraint=True)
