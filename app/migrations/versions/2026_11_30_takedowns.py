"""reports of films, and files that may not come back

Revision: 0047, after 0046
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import add_index, drop_index

revision: str = "0047"
down_revision: str | Sequence[str] | None = "0046"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "content_reports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("film_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("removed_films", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("(state = 'open') = (decided_at IS NULL)", name=op.f("ck_content_reports_decided_once")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_content_reports")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_content_reports_open",
        "content_reports",
        ["due_at"],
        postgresql_where=sa.text("state = 'open'"),
        if_not_exists=True,
    )
    op.create_index("ix_content_reports_created", "content_reports", ["created_at", "id"], if_not_exists=True)
    op.create_table(
        "report_senders",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["content_reports.id"], name=op.f("fk_report_senders_report_id_content_reports")
        ),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_report_senders")),
        if_not_exists=True,
    )
    op.create_table(
        "blocked_files",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("film_id", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blocked_files")),
        if_not_exists=True,
    )
    add_index("ix_assets_file", "assets", ["sha256"], where="state = 'ready'")
    add_index("ix_assets_source_file", "assets", ["source_sha256"], where="state = 'ready'")
    add_index("ix_jobs_parent", "jobs", ["parent_id"], where="parent_id IS NOT NULL")


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_jobs_parent", "jobs")
    drop_index("ix_assets_source_file", "assets")
    drop_index("ix_assets_file", "assets")
    for table in ("blocked_files", "report_senders", "content_reports"):
        op.drop_table(table)
