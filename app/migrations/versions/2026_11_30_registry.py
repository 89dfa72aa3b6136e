"""the registry of films

Revision: 0046, after 0045
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import insert_in_batches

revision: str = "0046"
down_revision: str | Sequence[str] | None = "0045"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "registry_films",
        sa.Column("film_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("mark_id", sa.BigInteger(), nullable=True),
        sa.Column("frame_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("hash_parts", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("reused_films", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("policy", postgresql.JSONB(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("film_id", name=op.f("pk_registry_films")),
        if_not_exists=True,
    )
    for name, column, options in (
        ("ix_registry_films_sha256", "sha256", {}),
        ("ix_registry_films_mark_id", "mark_id", {"postgresql_where": sa.text("mark_id IS NOT NULL")}),
        ("ix_registry_films_account_id", "account_id", {}),
        ("ix_registry_films_hash_parts", "hash_parts", {"postgresql_using": "gin"}),
    ):
        op.create_index(name, "registry_films", [column], if_not_exists=True, **options)
    # Films that were made before are known by their files alone.
    insert_in_batches(
        "registry_films (film_id, account_id, test, sha256, mark_id, frame_hashes, hash_parts, model, model_version,"
        " reused_films, policy, made_at)",
        "SELECT id, account_id, test, film ->> 'sha256', mark_id, '', '{}', model, '', '{}', '{}', finished_at"
        " FROM jobs JOIN batch USING (id) WHERE film ->> 'sha256' IS NOT NULL AND finished_at IS NOT NULL",
        source="jobs",
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("registry_films")
