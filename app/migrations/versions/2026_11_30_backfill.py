"""films that get their marks after they were delivered

Revision: 0055, after 0054
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import add_index, drop_index

revision: str = "0055"
down_revision: str | Sequence[str] | None = "0054"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "film_successors",
        sa.Column("film_id", sa.Text(), nullable=False),
        sa.Column("old_key", sa.Text(), nullable=False),
        sa.Column("old_film", postgresql.JSONB(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("old_sha256", "new_key", "new_sha256")),
        sa.Column("new_bytes", sa.BigInteger(), nullable=False),
        sa.Column("marks_version", sa.Integer(), nullable=False),
        sa.Column("marked_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("film_id", name=op.f("pk_film_successors")),
        if_not_exists=True,
    )
    for column, prefix in (("old_key", "uq"), ("old_sha256", "ix"), ("new_sha256", "ix"), ("marked_at", "ix")):
        name = f"{prefix}_film_successors_{column}"
        op.create_index(name, "film_successors", [column], unique=prefix == "uq", if_not_exists=True)
    op.execute("""
        CREATE OR REPLACE FUNCTION film_successors_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'a receipt replays by what its film was before';
        END $$
    """)
    op.execute("""
        CREATE OR REPLACE TRIGGER film_successors_stay BEFORE UPDATE OR DELETE ON film_successors
        FOR EACH ROW EXECUTE FUNCTION film_successors_stay()
    """)
    op.create_table(
        "backfill_claims",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("film_id", "state", "new_key")),
        sa.Column("lease_until", moment, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.CheckConstraint("state IN ('running', 'marked', 'kept', 'skipped')", name=op.f("ck_backfill_claims_state")),
        sa.PrimaryKeyConstraint("film_id", name=op.f("pk_backfill_claims")),
        if_not_exists=True,
    )
    add_index("ix_registry_films_made_before", "registry_films", ["film_id"], where="model_version = ''")


def downgrade() -> None:
    """Take this revision back. Receipts of films that were marked since replay no more."""
    drop_index("ix_registry_films_made_before", "registry_films")
    op.drop_table("backfill_claims")
    op.drop_table("film_successors")
    op.execute("DROP FUNCTION film_successors_stay")
