"""personal values beside the audit log, salts of accounts, and erasures

Revision: 0053, after 0052
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import add_index, drop_index, update_in_batches

revision: str = "0053"
down_revision: str | Sequence[str] | None = "0052"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SALT = "gen_random_uuid()::text || gen_random_uuid()::text"

# Name of the function, its table's message, and the column that an erasure may change.
_STAY = (
    ("audit_entries", "the audit trail is only ever added to", "facts"),
    ("transfers", "a transfer is never changed or removed; book a new one", "reason"),
)
_EVENT_COLUMNS = "'{body,callback_url,callback_body,traceparent,request_id,erased_hash}'::text[]"
_PLACE = """
        IF TG_OP = 'UPDATE' AND OLD.position IS NULL THEN
            OLD.position := NEW.position;
            IF NEW IS NOT DISTINCT FROM OLD THEN
                RETURN NEW;
            END IF;
        END IF;"""


def upgrade() -> None:
    """Bring the database to this revision. Columns without a default rewrite no row."""
    op.add_column("events", sa.Column("erased_hash", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("accounts", sa.Column("salt", sa.Text(), nullable=True), if_not_exists=True)
    op.alter_column("accounts", "salt", server_default=sa.text(_SALT))
    update_in_batches("accounts", f"salt = {_SALT}", "salt IS NULL")
    op.create_table(
        "audit_values",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["number"], ["audit_entries.number"], name=op.f("fk_audit_values_number_audit_entries")
        ),
        sa.PrimaryKeyConstraint("number", "name", name=op.f("pk_audit_values")),
        if_not_exists=True,
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("steps", postgresql.JSONB(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('account', 'member', 'report')", name=op.f("ck_erasures_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
        if_not_exists=True,
    )
    op.create_index(
        "uq_erasures_open",
        "erasures",
        ["kind", "subject_id"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
        if_not_exists=True,
    )
    for table, message, column in _STAY:
        _install_stay(table, message, column)
    _install_events_stay(
        f"""
        IF TG_OP = 'UPDATE' AND current_setting('cinemeter.erasing', true) = 'on' AND NEW.erased_hash IS NOT NULL
            AND to_jsonb(NEW) - {_EVENT_COLUMNS}
              = to_jsonb(OLD) - {_EVENT_COLUMNS} THEN
            RETURN NEW;
        END IF;"""
    )
    add_index("ix_events_erased", "events", ["account_id"], where="erased_hash IS NOT NULL")
    # A seal now covers what can name a person by salted hashes. The next audit seals the months again.
    op.execute("TRUNCATE sealed_months, sealed_sums")


def downgrade() -> None:
    """Take this revision back. What was erased stays erased, and an audit of the version before it names such rows."""
    op.execute("TRUNCATE sealed_months, sealed_sums")
    drop_index("ix_events_erased", "events")
    _install_events_stay("")
    for table, message, _ in _STAY:
        _install_stay(table, message, None)
    op.drop_table("erasures")
    op.drop_table("audit_values")
    op.drop_column("accounts", "salt")
    op.drop_column("events", "erased_hash")


def _install_stay(table: str, message: str, column: str | None) -> None:
    exception = f"""
            IF TG_OP = 'UPDATE' AND current_setting('cinemeter.erasing', true) = 'on'
                AND to_jsonb(NEW) - '{column}' = to_jsonb(OLD) - '{column}' THEN
                RETURN NEW;
            END IF;"""
    op.execute(f"""
        CREATE OR REPLACE FUNCTION {table}_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN{exception if column else ""}
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = '{message}';
        END $$
        """)


def _install_events_stay(exception: str) -> None:
    op.execute(f"""
    CREATE OR REPLACE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN{_PLACE}{exception}
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'an event is never changed or removed; only its place in the feed is written, and once';
    END $$
    """)
