"""four eyes: who gave out a key with roles, and a contract's end that is brought forward but never put off

Revision: 0009, after 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

PAPER_STAYS = """
    CREATE OR REPLACE FUNCTION paper_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'price books and contracts are never removed; withdraw it';
        END IF;
        IF OLD.state = 'withdrawn'
            OR NEW.author <> OLD.author
            OR (OLD.state <> 'draft' AND (NEW.state = 'draft' OR NEW.toml <> OLD.toml
                OR NEW.content_hash <> OLD.content_hash OR NEW.based_on IS DISTINCT FROM OLD.based_on
                OR NEW.approver IS DISTINCT FROM OLD.approver))
            OR (OLD.state = 'scheduled' AND (NEW.state = 'approved'
                OR NEW.effective_at IS DISTINCT FROM OLD.effective_at))
            -- Of contracts: an end is set, or brought forward. To put it off would be new terms.
            OR (to_jsonb(OLD) ->> 'ends_at')::timestamptz < coalesce((to_jsonb(NEW) ->> 'ends_at')::timestamptz, 'infinity')
            THEN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'only a draft can be edited; write a new one';
        END IF;
        RETURN NEW;
    END $$
"""
PAPER_STAYED = """
    CREATE OR REPLACE FUNCTION paper_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'price books and contracts are never removed; withdraw it';
        END IF;
        IF OLD.state = 'withdrawn'
            OR NEW.author <> OLD.author
            OR (OLD.state <> 'draft' AND (NEW.state = 'draft' OR NEW.toml <> OLD.toml
                OR NEW.content_hash <> OLD.content_hash OR NEW.based_on IS DISTINCT FROM OLD.based_on
                OR NEW.approver IS DISTINCT FROM OLD.approver))
            OR (OLD.state = 'scheduled' AND (NEW.state = 'approved'
                OR NEW.effective_at IS DISTINCT FROM OLD.effective_at)) THEN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'only a draft can be edited; write a new one';
        END IF;
        RETURN NEW;
    END $$
"""


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column("api_keys", sa.Column("issued_by", sa.Text(), nullable=True))
    op.execute(PAPER_STAYS)


def downgrade() -> None:
    """Take this revision back."""
    op.execute(PAPER_STAYED)
    op.drop_column("api_keys", "issued_by")
