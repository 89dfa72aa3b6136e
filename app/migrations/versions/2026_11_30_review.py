"""reviews by moderators: what they decide, the stage of jobs that wait for them, their role, and levels of accounts

Revision: 0051, after 0050
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_constraint, add_index, drop_index, update_in_batches

revision: str = "0051"
down_revision: str | Sequence[str] | None = "0050"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_OPEN = "outcome = 'review' AND decision IS NULL"
_ROLES = "'creator', 'owner', 'pricing_author', 'pricing_approver', 'operator'"
# The tables whose rows have roles, and the stages of a job before this revision.
_WITH_ROLES = ("members", "invitations", "api_keys")
_STAGES = "'waiting', 'rendering', 'finishing'"
_MOMENT = sa.DateTime(timezone=True)
_INDICES = (
    "uq_moderation_outcomes_open",
    "ix_moderation_outcomes_waiting",
    "ix_moderation_outcomes_due",
    "ix_moderation_outcomes_decided",
)


def upgrade() -> None:
    """Bring the database to this revision. Columns without a default, or with a constant one, rewrite no row."""
    table = "moderation_outcomes"
    for name in ("due_at", "decided_at"):
        op.add_column(table, sa.Column(name, _MOMENT, nullable=True), if_not_exists=True)
    for name in ("at_deadline", "decision", "decided_by", "reason"):
        op.add_column(table, sa.Column(name, sa.Text(), nullable=True), if_not_exists=True)
    add_constraint("ck_moderation_outcomes_at_deadline", table, "CHECK (at_deadline IN ('allow', 'refuse'))")
    add_constraint("ck_moderation_outcomes_decision", table, "CHECK (decision IN ('allow', 'refuse', 'withdrawn'))")
    add_constraint("ck_moderation_outcomes_decided_once", table, "CHECK ((decision IS NULL) = (decided_at IS NULL))")
    add_constraint(
        "ck_moderation_outcomes_review_of_job",
        table,
        "CHECK (outcome <> 'review' OR (job_id IS NOT NULL AND due_at IS NOT NULL AND at_deadline IS NOT NULL))",
    )
    add_index("uq_moderation_outcomes_open", table, ["job_id"], unique=True, where=_OPEN)
    add_index("ix_moderation_outcomes_waiting", table, ["first_at", "id"], where=_OPEN)
    add_index("ix_moderation_outcomes_due", table, ["due_at"], where=_OPEN)
    add_index("ix_moderation_outcomes_decided", table, ["decided_at", "id"], where="decision IS NOT NULL")
    level = sa.Column("moderation_level", sa.Text(), nullable=False, server_default="standard")
    op.add_column("accounts", level, if_not_exists=True)
    add_constraint("ck_accounts_moderation_level", "accounts", "CHECK (moderation_level IN ('standard', 'strict'))")
    for each in _WITH_ROLES:
        _replace_check(f"ck_{each}_roles", each, f"roles <@ ARRAY[{_ROLES}, 'moderator']::text[]")
    _replace_check("ck_jobs_stage", "jobs", f"stage IN ('moderating', {_STAGES})")
    # Last, because orders wait while the lock of jobs is held.
    op.add_column("jobs", sa.Column("review_due_at", _MOMENT, nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back. Jobs in review must have been decided before; nobody is a moderator any more."""
    # Jobs that ended while they waited have kept the stage.
    update_in_batches("jobs", "stage = 'waiting'", "jobs.stage = 'moderating' AND jobs.finished_at IS NOT NULL")
    for each in _WITH_ROLES:
        update_in_batches(each, "roles = array_remove(roles, 'moderator')", "'moderator' = ANY(roles)")
    op.drop_column("jobs", "review_due_at")
    _replace_check("ck_jobs_stage", "jobs", f"stage IN ({_STAGES})")
    for each in _WITH_ROLES:
        _replace_check(f"ck_{each}_roles", each, f"roles <@ ARRAY[{_ROLES}]::text[]")
    op.drop_column("accounts", "moderation_level")
    for name in _INDICES:
        drop_index(name, "moderation_outcomes")
    for name in ("due_at", "at_deadline", "decision", "decided_at", "decided_by", "reason"):
        op.drop_column("moderation_outcomes", name)


def _replace_check(name: str, table: str, condition: str) -> None:
    """Replace a check by a wider one; between the two no row is written, as the table is locked."""
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
    add_constraint(name, table, f"CHECK ({condition})")
