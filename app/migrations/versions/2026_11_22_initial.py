"""initial

Revision: 0001, after

Rules of a migration: it runs while the service runs, so add columns as NULL or with a default, back-fill in batches,
and drop only what no released version reads any more. Triggers are copied from tables.py; a test compares the two.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("billing_zone", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("queue_limit", sa.Integer(), nullable=True),
        sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("suspended_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('prepaid', 'invoiced')", name=op.f("ck_accounts_kind")),
        sa.CheckConstraint("concurrency > 0", name=op.f("ck_accounts_concurrency_positive")),
        sa.CheckConstraint("queue_limit >= 0", name=op.f("ck_accounts_queue_limit_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "audit_entries",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entries")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_entries_hash")),
    )
    op.create_index("ix_audit_entries_subject", "audit_entries", ["subject"], unique=False)
    op.create_table(
        "leaders",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_leaders")),
    )
    op.create_table(
        "paces",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("p50", sa.Numeric(precision=14, scale=6), nullable=False),
        sa.Column("p90", sa.Numeric(precision=14, scale=6), nullable=False),
        sa.Column("gpu_p50", sa.Numeric(precision=14, scale=6), nullable=False),
        sa.PrimaryKeyConstraint("model", "kind", "shape", name=op.f("pk_paces")),
    )
    op.create_table(
        "pools",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vclock", sa.Numeric(precision=16, scale=3), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
    )
    op.create_table(
        "price_books",
        sa.Column("based_on", sa.Text(), nullable=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approver", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sole_admin", sa.Boolean(), nullable=False),
        sa.Column("scheduled_by", sa.Text(), nullable=True),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'withdrawn') = (withdrawn_at IS NOT NULL)", name=op.f("ck_price_books_withdrawn_has_moment")
        ),
        sa.CheckConstraint(
            "state <> 'scheduled' OR effective_at IS NOT NULL", name=op.f("ck_price_books_scheduled_has_moment")
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'approved', 'scheduled', 'withdrawn')", name=op.f("ck_price_books_state")
        ),
        sa.CheckConstraint(
            "state NOT IN ('approved', 'scheduled') OR approver IS NOT NULL",
            name=op.f("ck_price_books_approved_by_somebody"),
        ),
        sa.CheckConstraint(
            "approver IS NULL OR approver <> author OR sole_admin", name=op.f("ck_price_books_approver_is_not_author")
        ),
        sa.ForeignKeyConstraint(["based_on"], ["price_books.id"], name=op.f("fk_price_books_based_on")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_books")),
    )
    op.create_index(
        "uq_price_books_effective",
        "price_books",
        ["effective_at"],
        unique=True,
        postgresql_where=sa.text("state = 'scheduled'"),
    )
    op.create_table(
        "promotion_uses",
        sa.Column("promotion", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_promotion_uses_reserved_not_negative")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_promotion_uses_spent_not_negative")),
        sa.PrimaryKeyConstraint("promotion", "account_id", name=op.f("pk_promotion_uses")),
    )
    op.create_table(
        "sweep_counts",
        sa.Column("repair", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("repair", name=op.f("pk_sweep_counts")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("pools", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("resident_model", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("take_id", sa.Text(), nullable=True),
        sa.Column("drain_requested", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("state IN ('starting', 'idle', 'busy', 'draining', 'gone')", name=op.f("ck_workers_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_seen", "workers", ["seen_at"], unique=False)
    op.create_table(
        "assets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("refused_reason", sa.Text(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=True),
        sa.Column("fps", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Text(), nullable=True),
        sa.Column("has_audio", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'refused') = (refused_reason IS NOT NULL)", name=op.f("ck_assets_refused_for_a_reason")
        ),
        sa.CheckConstraint("kind IN ('picture', 'clip', 'sound')", name=op.f("ck_assets_kind")),
        sa.CheckConstraint(
            "state <> 'ready' OR (key IS NOT NULL AND kind IS NOT NULL)", name=op.f("ck_assets_ready_has_a_file")
        ),
        sa.CheckConstraint("state IN ('pending', 'ready', 'refused', 'deleted')", name=op.f("ck_assets_state")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_assets_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assets")),
    )
    op.create_index(
        "ix_assets_account",
        "assets",
        ["account_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_index(
        "ix_assets_expiry", "assets", ["expires_at"], unique=False, postgresql_where=sa.text("state <> 'deleted'")
    )
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("scope IN ('key', 'project')", name=op.f("ck_budgets_scope")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_budgets_held_not_negative")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_budgets_spent_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_budgets_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint("scope", "subject_id", "month", name=op.f("uq_budgets_scope_subject_id_month")),
    )
    op.create_table(
        "contracts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("based_on", sa.Text(), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approver", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sole_admin", sa.Boolean(), nullable=False),
        sa.Column("scheduled_by", sa.Text(), nullable=True),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'withdrawn') = (withdrawn_at IS NOT NULL)", name=op.f("ck_contracts_withdrawn_has_moment")
        ),
        sa.CheckConstraint(
            "state <> 'scheduled' OR effective_at IS NOT NULL", name=op.f("ck_contracts_scheduled_has_moment")
        ),
        sa.CheckConstraint("state IN ('draft', 'approved', 'scheduled', 'withdrawn')", name=op.f("ck_contracts_state")),
        sa.CheckConstraint(
            "state NOT IN ('approved', 'scheduled') OR approver IS NOT NULL",
            name=op.f("ck_contracts_approved_by_somebody"),
        ),
        sa.CheckConstraint(
            "approver IS NULL OR approver <> author OR sole_admin", name=op.f("ck_contracts_approver_is_not_author")
        ),
        sa.CheckConstraint("ends_at > effective_at", name=op.f("ck_contracts_ends_after_effect")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_contracts_account_id")),
        sa.ForeignKeyConstraint(["based_on"], ["contracts.id"], name=op.f("fk_contracts_based_on")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contracts")),
    )
    op.create_index(
        "uq_contracts_effective",
        "contracts",
        ["account_id", "effective_at"],
        unique=True,
        postgresql_where=sa.text("state = 'scheduled'"),
    )
    op.create_table(
        "free_uses",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_free_uses_reserved_not_negative")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_free_uses_spent_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_free_uses_account_id")),
        sa.PrimaryKeyConstraint("account_id", "month", name=op.f("pk_free_uses")),
    )
    op.create_table(
        "intake_pauses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(resumed_at IS NULL) = (resumed_by IS NULL)", name=op.f("ck_intake_pauses_resumed_by_somebody")
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_intake_pauses_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intake_pauses")),
    )
    op.create_index(
        "uq_intake_pauses_open",
        "intake_pauses",
        [sa.literal_column("coalesce(model, '')"), sa.literal_column("coalesce(account_id, '')")],
        unique=True,
        postgresql_where=sa.text("resumed_at IS NULL"),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("last_signed_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "roles <@ ARRAY['creator', 'owner', 'pricing_author', 'pricing_approver', 'operator']::text[]",
            name=op.f("ck_members_roles"),
        ),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_members_email_lower")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_members_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
    )
    op.create_index("ix_members_account", "members", ["account_id"], unique=False)
    op.create_index(
        "uq_members_email", "members", ["email"], unique=True, postgresql_where=sa.text("removed_at IS NULL")
    )
    op.create_table(
        "membership_periods",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        postgresql.ExcludeConstraint(
            (
                sa.literal_column(
                    "numrange(hashtextextended(account_id, 0)::numeric, hashtextextended(account_id, 0)::numeric, '[]')"
                ),
                "&&",
            ),
            (sa.text("tstzrange(starts_at, ends_at, '[)')"), "&&"),
            using="gist",
            name="ex_membership_periods_overlap",
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_membership_periods_ends_after_start")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_membership_periods_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership_periods")),
    )
    op.create_index("ix_membership_periods_account", "membership_periods", ["account_id", "starts_at"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("budget_month", sa.BigInteger(), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("budget_month >= 0", name=op.f("ck_projects_budget_month_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_projects_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_index(
        "uq_projects_name",
        "projects",
        ["account_id", "name"],
        unique=True,
        postgresql_where=sa.text("archived_at IS NULL"),
    )
    op.create_table(
        "reservations",
        sa.Column("quote_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False),
        sa.Column("free_used", sa.BigInteger(), nullable=False),
        sa.Column("promotions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("promotions_used", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'held') = (resolved_at IS NULL)", name=op.f("ck_reservations_resolved_has_moment")
        ),
        sa.CheckConstraint("state IN ('held', 'settled', 'returned')", name=op.f("ck_reservations_state")),
        sa.CheckConstraint("free_used BETWEEN 0 AND free", name=op.f("ck_reservations_free_used_within_free")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_reservations_account_id")),
        sa.PrimaryKeyConstraint("quote_id", name=op.f("pk_reservations")),
    )
    op.create_table(
        "shares",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("vtime", sa.Numeric(precision=16, scale=3), nullable=False),
        sa.Column("weight", sa.Numeric(precision=8, scale=3), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_shares_account_id")),
        sa.PrimaryKeyConstraint("pool", "account_id", name=op.f("pk_shares")),
    )
    op.create_table(
        "wallets",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("credit_limit", sa.BigInteger(), nullable=False),
        sa.Column("low_balance", sa.BigInteger(), nullable=True),
        sa.Column("low_balance_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("credit_limit >= 0", name=op.f("ck_wallets_credit_limit_not_negative")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_wallets_held_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_wallets_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_wallets")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("keyid", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("last4", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("budget_total", sa.BigInteger(), nullable=True),
        sa.Column("job_cap", sa.BigInteger(), nullable=True),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("replaced_by", sa.Text(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "roles <@ ARRAY['creator', 'owner', 'pricing_author', 'pricing_approver', 'operator']::text[]",
            name=op.f("ck_api_keys_roles"),
        ),
        sa.CheckConstraint("roles = '{}' OR 'admin' = ANY (scopes)", name=op.f("ck_api_keys_roles_need_admin")),
        sa.CheckConstraint(
            "scopes <@ ARRAY['videos', 'billing', 'webhooks', 'admin']::text[]", name=op.f("ck_api_keys_scopes")
        ),
        sa.CheckConstraint("budget_total >= 0", name=op.f("ck_api_keys_budget_total_not_negative")),
        sa.CheckConstraint("job_cap >= 0", name=op.f("ck_api_keys_job_cap_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_api_keys_member_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_api_keys_project_id")),
        sa.ForeignKeyConstraint(["replaced_by"], ["api_keys.id"], name=op.f("fk_api_keys_replaced_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("keyid", name=op.f("uq_api_keys_keyid")),
    )
    op.create_index("ix_api_keys_account", "api_keys", ["account_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint("id !~ '[.]'", name=op.f("ck_events_id_without_dots")),
        sa.CheckConstraint("(job_id IS NULL) = (sequence IS NULL)", name=op.f("ck_events_sequence_of_job")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_events_account_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_events_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("job_id", "sequence", name=op.f("uq_events_job_id_sequence")),
    )
    op.create_index("ix_events_account_occurred", "events", ["account_id", "occurred_at"], unique=False)
    op.create_index(
        "ix_events_unplaced",
        "events",
        ["account_id", "occurred_at"],
        unique=False,
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_index(
        "uq_events_position",
        "events",
        ["account_id", "position"],
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_index(
        "uq_events_terminal",
        "events",
        ["job_id"],
        unique=True,
        postgresql_where=sa.text("type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')"),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("invited_by", sa.Text(), nullable=False),
        sa.Column("accepted_by", sa.Text(), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "roles <@ ARRAY['creator', 'owner', 'pricing_author', 'pricing_approver', 'operator']::text[]",
            name=op.f("ck_invitations_roles"),
        ),
        sa.CheckConstraint("accepted_at IS NULL OR revoked_at IS NULL", name=op.f("ck_invitations_one_end")),
        sa.ForeignKeyConstraint(["accepted_by"], ["members.id"], name=op.f("fk_invitations_accepted_by")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_invitations_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitations_token_hash")),
    )
    op.create_index("ix_invitations_account", "invitations", ["account_id"], unique=False)
    op.create_table(
        "quotes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("pricing", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'redeemed') = (job_id IS NOT NULL)", name=op.f("ck_quotes_redeemed_by_job")),
        sa.CheckConstraint("state IN ('open', 'redeemed', 'expired')", name=op.f("ck_quotes_state")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_quotes_account_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_quotes_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotes")),
        sa.UniqueConstraint("job_id", name=op.f("uq_quotes_job_id")),
    )
    op.create_index(
        "ix_quotes_open",
        "quotes",
        ["account_id", "expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("debit", sa.Text(), nullable=False),
        sa.Column("credit", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("'wallet:' || account_id IN (debit, credit)", name=op.f("ck_transfers_touches_its_wallet")),
        sa.CheckConstraint(
            "CASE kind WHEN 'purchase' THEN debit = 'funding' WHEN 'grant' THEN debit = 'promo_expense' WHEN 'capture' THEN credit = 'revenue' WHEN 'refund' THEN debit = 'refunds' WHEN 'expiry' THEN credit = 'breakage' WHEN 'regrant' THEN debit = 'breakage' ELSE 'corrections' IN (debit, credit) END",
            name=op.f("ck_transfers_sides_of_kind"),
        ),
        sa.CheckConstraint(
            "kind IN ('purchase', 'grant', 'capture', 'refund', 'correction', 'expiry', 'regrant')",
            name=op.f("ck_transfers_kind"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_transfers_amount_positive")),
        sa.CheckConstraint("debit <> credit", name=op.f("ck_transfers_two_sides")),
        sa.ForeignKeyConstraint(["account_id"], ["wallets.account_id"], name=op.f("fk_transfers_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("reference", name=op.f("uq_transfers_reference")),
    )
    op.create_index("ix_transfers_account_at", "transfers", ["account_id", "at"], unique=False)
    op.create_index(
        "ix_transfers_job", "transfers", ["job_id"], unique=False, postgresql_where=sa.text("job_id IS NOT NULL")
    )
    op.create_index(
        "uq_transfers_capture", "transfers", ["job_id"], unique=True, postgresql_where=sa.text("kind = 'capture'")
    )
    op.create_table(
        "web_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("proved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_web_sessions_member_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_sessions")),
    )
    op.create_index("ix_web_sessions_member", "web_sessions", ["member_id"], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("rate_per_second", sa.Integer(), nullable=False),
        sa.Column("paced_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures_in_row", sa.Integer(), nullable=False),
        sa.Column("deferred_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("warned_percent", sa.SmallInteger(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('registered', 'callback')", name=op.f("ck_webhook_endpoints_kind")),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name=op.f("ck_webhook_endpoints_disabled_for_a_reason")
        ),
        sa.CheckConstraint("max_in_flight BETWEEN 1 AND 100", name=op.f("ck_webhook_endpoints_max_in_flight")),
        sa.CheckConstraint("rate_per_second BETWEEN 1 AND 1000", name=op.f("ck_webhook_endpoints_rate_per_second")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhook_endpoints_account_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_webhook_endpoints_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_account",
        "webhook_endpoints",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_webhook_endpoints_callback",
        "webhook_endpoints",
        ["account_id", "url"],
        unique=True,
        postgresql_where=sa.text("kind = 'callback'"),
    )
    op.create_table(
        "credit_lots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('purchased', 'granted')", name=op.f("ck_credit_lots_kind")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_credit_lots_amount_positive")),
        sa.CheckConstraint("remaining BETWEEN 0 AND amount", name=op.f("ck_credit_lots_remaining_within_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["wallets.account_id"], name=op.f("fk_credit_lots_account_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_credit_lots_transfer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_lots")),
        sa.UniqueConstraint("transfer_id", name=op.f("uq_credit_lots_transfer_id")),
    )
    op.create_index(
        "ix_credit_lots_expiry",
        "credit_lots",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_credit_lots_open", "credit_lots", ["account_id"], unique=False, postgresql_where=sa.text("remaining > 0")
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("captured_amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'held') = (resolved_at IS NULL)", name=op.f("ck_holds_resolved_has_moment")),
        sa.CheckConstraint(
            "state = 'captured' OR captured_amount = 0", name=op.f("ck_holds_captured_only_if_captured")
        ),
        sa.CheckConstraint("state IN ('held', 'captured', 'released')", name=op.f("ck_holds_state")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_holds_amount_not_negative")),
        sa.CheckConstraint("captured_amount BETWEEN 0 AND amount", name=op.f("ck_holds_captured_within_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["wallets.account_id"], name=op.f("fk_holds_account_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_holds_key_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_holds_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sa.UniqueConstraint("job_id", name=op.f("uq_holds_job_id")),
    )
    op.create_index("ix_holds_open", "holds", ["account_id"], unique=False, postgresql_where=sa.text("state = 'held'"))
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("pricing", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("price", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("quote_id", sa.Text(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("list_total", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("resolved", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("parent_kind", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("progress", sa.SmallInteger(), nullable=False),
        sa.Column("units_total", sa.Integer(), nullable=False),
        sa.Column("units_done", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("start_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("film_key", sa.Text(), nullable=True),
        sa.Column("poster_key", sa.Text(), nullable=True),
        sa.Column("sprites_key", sa.Text(), nullable=True),
        sa.Column("film", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("files_expire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("files_removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state IN ('queued', 'in_progress')) = (finished_at IS NULL)", name=op.f("ck_jobs_final_has_end")
        ),
        sa.CheckConstraint("stage IN ('waiting', 'rendering', 'finishing')", name=op.f("ck_jobs_stage")),
        sa.CheckConstraint(
            "state IN ('queued', 'in_progress', 'completed', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_jobs_account_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_jobs_key_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_jobs_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("quote_id", name=op.f("uq_jobs_quote_id")),
    )
    op.create_index("ix_jobs_account_created", "jobs", ["account_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_jobs_deadline",
        "jobs",
        ["not_after"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND not_after IS NOT NULL"),
    )
    op.create_index("ix_jobs_finished", "jobs", ["finished_at"], unique=False)
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'in_progress')"),
    )
    op.create_index(
        "ix_jobs_retention",
        "jobs",
        ["files_expire_at"],
        unique=False,
        postgresql_where=sa.text("files_removed_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_start_by",
        "jobs",
        ["start_by"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND start_by IS NOT NULL"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("last_status", sa.SmallInteger(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'pending') = (ended_at IS NULL)", name=op.f("ck_webhook_deliveries_final_has_ended")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (next_attempt_at IS NOT NULL)", name=op.f("ck_webhook_deliveries_pending_is_due")
        ),
        sa.CheckConstraint("lease IS NULL OR state = 'pending'", name=op.f("ck_webhook_deliveries_lease_of_pending")),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'exhausted', 'abandoned')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.CheckConstraint(
            "trigger IN ('auto', 'manual', 'recover', 'test')", name=op.f("ck_webhook_deliveries_trigger")
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhook_deliveries_account_id")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id")
        ),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_webhook_deliveries_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_account", "webhook_deliveries", ["account_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["endpoint_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint", "webhook_deliveries", ["endpoint_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_webhook_deliveries_ended",
        "webhook_deliveries",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index("ix_webhook_deliveries_event", "webhook_deliveries", ["event_id"], unique=False)
    op.create_index(
        "ix_webhook_deliveries_leased",
        "webhook_deliveries",
        ["endpoint_id"],
        unique=False,
        postgresql_where=sa.text("lease IS NOT NULL"),
    )
    op.create_index(
        "uq_webhook_deliveries_auto",
        "webhook_deliveries",
        ["event_id", "endpoint_id"],
        unique=True,
        postgresql_where=sa.text("trigger = 'auto'"),
    )
    op.create_index(
        "uq_webhook_deliveries_open",
        "webhook_deliveries",
        ["event_id", "endpoint_id"],
        unique=True,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhook_secrets_account_id")),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_secrets_endpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index("ix_webhook_secrets_endpoint", "webhook_secrets", ["endpoint_id"], unique=False)
    op.create_index(
        "uq_webhook_secrets_current",
        "webhook_secrets",
        ["account_id", sa.literal_column("coalesce(endpoint_id, '')")],
        unique=True,
        postgresql_where=sa.text("expires_at IS NULL"),
    )
    op.create_table(
        "hold_slices",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("amount > 0", name=op.f("ck_hold_slices_amount_positive")),
        sa.CheckConstraint("used BETWEEN 0 AND amount", name=op.f("ck_hold_slices_used_within_amount")),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_hold_slices_hold_id")),
        sa.ForeignKeyConstraint(["lot_id"], ["credit_lots.id"], name=op.f("fk_hold_slices_lot_id")),
        sa.PrimaryKeyConstraint("hold_id", "lot_id", name=op.f("pk_hold_slices")),
    )
    op.create_index("ix_hold_slices_lot", "hold_slices", ["lot_id"], unique=False)
    op.create_table(
        "lot_draws",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_lot_draws_amount_positive")),
        sa.ForeignKeyConstraint(["lot_id"], ["credit_lots.id"], name=op.f("fk_lot_draws_lot_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_lot_draws_transfer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lot_draws")),
    )
    op.create_index("ix_lot_draws_lot", "lot_draws", ["lot_id"], unique=False)
    op.create_table(
        "receipts",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("quoted", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("list_total", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("film_key", sa.Text(), nullable=True),
        sa.Column("film_sha256", sa.Text(), nullable=True),
        sa.Column("pricing_case", sa.Text(), nullable=False),
        sa.Column("priced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gpu_milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("total >= 0 AND total <= quoted", name=op.f("ck_receipts_never_above_quote")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_receipts_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_receipts_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_receipts")),
        sa.UniqueConstraint("number", name=op.f("uq_receipts_number")),
    )
    op.create_index("ix_receipts_account", "receipts", ["account_id", "settled_at"], unique=False)
    op.create_index("ix_receipts_settled", "receipts", ["settled_at"], unique=False)
    op.create_table(
        "submissions",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_submissions_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_submissions_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_submissions")),
    )
    op.create_index("ix_submissions_body", "submissions", ["account_id", "fingerprint", "created_at"], unique=False)
    op.create_index(
        "uq_submissions_key",
        "submissions",
        ["account_id", "key"],
        unique=True,
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_table(
        "units",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("shot", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("estimate", sa.Numeric(precision=12, scale=3), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("takes_lost", sa.SmallInteger(), nullable=False),
        sa.Column("takes_error", sa.SmallInteger(), nullable=False),
        sa.Column("clip_key", sa.Text(), nullable=True),
        sa.Column("handover_key", sa.Text(), nullable=True),
        sa.Column("checkpoint_key", sa.Text(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('segment', 'finish')", name=op.f("ck_units_kind")),
        sa.CheckConstraint("state IN ('blocked', 'ready', 'running', 'done', 'dropped')", name=op.f("ck_units_state")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_units_account_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_units_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_units")),
        sa.UniqueConstraint("job_id", "kind", "shot", "position", name=op.f("uq_units_job_id_kind_shot_position")),
    )
    op.create_index(op.f("ix_units_job_id"), "units", ["job_id"], unique=False)
    op.create_index(
        "ix_units_ready",
        "units",
        ["pool", "class", "account_id", "queued_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "ix_units_ready_model",
        "units",
        ["pool", "class", "account_id", "model", "queued_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("dns_ms", sa.Integer(), nullable=True),
        sa.Column("connect_ms", sa.Integer(), nullable=True),
        sa.Column("tls_ms", sa.Integer(), nullable=True),
        sa.Column("ttfb_ms", sa.Integer(), nullable=True),
        sa.Column("total_ms", sa.Integer(), nullable=False),
        sa.Column("retry_after_seconds", sa.Integer(), nullable=True),
        sa.Column("excerpt", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["webhook_deliveries.id"], name=op.f("fk_webhook_attempts_delivery_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index("ix_webhook_attempts_delivery", "webhook_attempts", ["delivery_id", "started_at"], unique=False)
    op.create_table(
        "takes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("charged", sa.Numeric(precision=12, scale=3), nullable=False),
        sa.Column("share_settled", sa.Boolean(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("meter", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("gpu_seconds", sa.Numeric(precision=12, scale=3), nullable=False),
        sa.Column("clip_key", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'running') = (ended_at IS NULL)", name=op.f("ck_takes_running_has_no_end")),
        sa.CheckConstraint(
            "state IN ('running', 'succeeded', 'failed', 'lost', 'released')", name=op.f("ck_takes_state")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_takes_job_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["units.id"], name=op.f("fk_takes_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_takes")),
        sa.UniqueConstraint("fence", name=op.f("uq_takes_fence")),
    )
    op.create_index("ix_takes_job", "takes", ["job_id"], unique=False)
    op.create_index(
        "ix_takes_lease", "takes", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "ix_takes_running_account",
        "takes",
        ["pool", "account_id"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_takes_unsettled",
        "takes",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'running' AND NOT share_settled"),
    )
    op.create_index(
        "uq_takes_running", "takes", ["unit_id"], unique=True, postgresql_where=sa.text("state = 'running'")
    )

    # Triggers: what no verb of ours does and no hand should.
    op.execute("""
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
    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER price_books_stay BEFORE UPDATE OR DELETE ON price_books
                FOR EACH ROW EXECUTE FUNCTION paper_stays()

    """)
    op.execute("""
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
    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER contracts_stay BEFORE UPDATE OR DELETE ON contracts
                FOR EACH ROW EXECUTE FUNCTION paper_stays()

    """)
    op.execute("""
                CREATE OR REPLACE FUNCTION audit_entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                        MESSAGE = 'the audit trail is only ever added to';
                END $$

    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries
                FOR EACH ROW EXECUTE FUNCTION audit_entries_stay()

    """)
    op.execute("""
                CREATE OR REPLACE FUNCTION transfers_stay() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                        MESSAGE = 'a transfer is never changed or removed; book a new one';
                END $$

    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER transfers_stay BEFORE UPDATE OR DELETE ON transfers
                FOR EACH ROW EXECUTE FUNCTION transfers_stay()

    """)
    op.execute("""
                CREATE OR REPLACE FUNCTION holds_resolve_once() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF TG_OP = 'DELETE' OR OLD.state <> 'held' OR NEW.amount <> OLD.amount
                        OR NEW.account_id <> OLD.account_id OR NEW.job_id <> OLD.job_id THEN
                        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                            MESSAGE = 'a hold is resolved once, and nothing else about it changes';
                    END IF;
                    RETURN NEW;
                END $$

    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER holds_resolve_once BEFORE UPDATE OR DELETE ON holds
                FOR EACH ROW EXECUTE FUNCTION holds_resolve_once()

    """)
    op.execute("""
                CREATE OR REPLACE FUNCTION wallets_never_overdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NEW.held > OLD.held AND NEW.posted - NEW.held < - NEW.credit_limit THEN
                        RAISE EXCEPTION USING ERRCODE = 'check_violation',
                            MESSAGE = 'a hold may not take more than the wallet has and its credit limit adds';
                    END IF;
                    RETURN NEW;
                END $$

    """)
    op.execute("""
                CREATE OR REPLACE TRIGGER wallets_never_overdrawn BEFORE UPDATE ON wallets
                FOR EACH ROW EXECUTE FUNCTION wallets_never_overdrawn()

    """)


def downgrade() -> None:
    """Take the database back to the revision before."""
    op.drop_index("uq_takes_running", table_name="takes", postgresql_where=sa.text("state = 'running'"))
    op.drop_index(
        "ix_takes_unsettled", table_name="takes", postgresql_where=sa.text("state <> 'running' AND NOT share_settled")
    )
    op.drop_index("ix_takes_running_account", table_name="takes", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_takes_lease", table_name="takes", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_takes_job", table_name="takes")
    op.drop_table("takes")
    op.drop_index("ix_webhook_attempts_delivery", table_name="webhook_attempts")
    op.drop_table("webhook_attempts")
    op.drop_index("ix_units_ready_model", table_name="units", postgresql_where=sa.text("state = 'ready'"))
    op.drop_index("ix_units_ready", table_name="units", postgresql_where=sa.text("state = 'ready'"))
    op.drop_index(op.f("ix_units_job_id"), table_name="units")
    op.drop_table("units")
    op.drop_index("uq_submissions_key", table_name="submissions", postgresql_where=sa.text("key IS NOT NULL"))
    op.drop_index("ix_submissions_body", table_name="submissions")
    op.drop_table("submissions")
    op.drop_index("ix_receipts_settled", table_name="receipts")
    op.drop_index("ix_receipts_account", table_name="receipts")
    op.drop_table("receipts")
    op.drop_index("ix_lot_draws_lot", table_name="lot_draws")
    op.drop_table("lot_draws")
    op.drop_index("ix_hold_slices_lot", table_name="hold_slices")
    op.drop_table("hold_slices")
    op.drop_index(
        "uq_webhook_secrets_current", table_name="webhook_secrets", postgresql_where=sa.text("expires_at IS NULL")
    )
    op.drop_index("ix_webhook_secrets_endpoint", table_name="webhook_secrets")
    op.drop_table("webhook_secrets")
    op.drop_index(
        "uq_webhook_deliveries_open", table_name="webhook_deliveries", postgresql_where=sa.text("state = 'pending'")
    )
    op.drop_index(
        "uq_webhook_deliveries_auto", table_name="webhook_deliveries", postgresql_where=sa.text("trigger = 'auto'")
    )
    op.drop_index(
        "ix_webhook_deliveries_leased", table_name="webhook_deliveries", postgresql_where=sa.text("lease IS NOT NULL")
    )
    op.drop_index("ix_webhook_deliveries_event", table_name="webhook_deliveries")
    op.drop_index(
        "ix_webhook_deliveries_ended",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.drop_index("ix_webhook_deliveries_endpoint", table_name="webhook_deliveries")
    op.drop_index(
        "ix_webhook_deliveries_due", table_name="webhook_deliveries", postgresql_where=sa.text("state = 'pending'")
    )
    op.drop_index("ix_webhook_deliveries_account", table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_index(
        "ix_jobs_start_by", table_name="jobs", postgresql_where=sa.text("state = 'queued' AND start_by IS NOT NULL")
    )
    op.drop_index("ix_jobs_retention", table_name="jobs", postgresql_where=sa.text("files_removed_at IS NULL"))
    op.drop_index("ix_jobs_open", table_name="jobs", postgresql_where=sa.text("state IN ('queued', 'in_progress')"))
    op.drop_index("ix_jobs_finished", table_name="jobs")
    op.drop_index(
        "ix_jobs_deadline", table_name="jobs", postgresql_where=sa.text("state = 'queued' AND not_after IS NOT NULL")
    )
    op.drop_index("ix_jobs_account_created", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index("ix_holds_open", table_name="holds", postgresql_where=sa.text("state = 'held'"))
    op.drop_table("holds")
    op.drop_index("ix_credit_lots_open", table_name="credit_lots", postgresql_where=sa.text("remaining > 0"))
    op.drop_index(
        "ix_credit_lots_expiry",
        table_name="credit_lots",
        postgresql_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
    )
    op.drop_table("credit_lots")
    op.drop_index(
        "uq_webhook_endpoints_callback", table_name="webhook_endpoints", postgresql_where=sa.text("kind = 'callback'")
    )
    op.drop_index(
        "ix_webhook_endpoints_account", table_name="webhook_endpoints", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_table("webhook_endpoints")
    op.drop_index("ix_web_sessions_member", table_name="web_sessions")
    op.drop_table("web_sessions")
    op.drop_index("uq_transfers_capture", table_name="transfers", postgresql_where=sa.text("kind = 'capture'"))
    op.drop_index("ix_transfers_job", table_name="transfers", postgresql_where=sa.text("job_id IS NOT NULL"))
    op.drop_index("ix_transfers_account_at", table_name="transfers")
    op.drop_table("transfers")
    op.drop_index("ix_quotes_open", table_name="quotes", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("quotes")
    op.drop_index("ix_invitations_account", table_name="invitations")
    op.drop_table("invitations")
    op.drop_index(
        "uq_events_terminal",
        table_name="events",
        postgresql_where=sa.text("type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')"),
    )
    op.drop_index("uq_events_position", table_name="events", postgresql_where=sa.text("position IS NOT NULL"))
    op.drop_index("ix_events_unplaced", table_name="events", postgresql_where=sa.text("position IS NULL"))
    op.drop_index("ix_events_account_occurred", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_api_keys_account", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("wallets")
    op.drop_table("shares")
    op.drop_table("reservations")
    op.drop_index("uq_projects_name", table_name="projects", postgresql_where=sa.text("archived_at IS NULL"))
    op.drop_table("projects")
    op.drop_index("ix_membership_periods_account", table_name="membership_periods")
    op.drop_table("membership_periods")
    op.drop_index("uq_members_email", table_name="members", postgresql_where=sa.text("removed_at IS NULL"))
    op.drop_index("ix_members_account", table_name="members")
    op.drop_table("members")
    op.drop_index("uq_intake_pauses_open", table_name="intake_pauses", postgresql_where=sa.text("resumed_at IS NULL"))
    op.drop_table("intake_pauses")
    op.drop_table("free_uses")
    op.drop_index("uq_contracts_effective", table_name="contracts", postgresql_where=sa.text("state = 'scheduled'"))
    op.drop_table("contracts")
    op.drop_table("budgets")
    op.drop_index("ix_assets_expiry", table_name="assets", postgresql_where=sa.text("state <> 'deleted'"))
    op.drop_index("ix_assets_account", table_name="assets", postgresql_where=sa.text("state <> 'deleted'"))
    op.drop_table("assets")
    op.drop_index("ix_workers_seen", table_name="workers")
    op.drop_table("workers")
    op.drop_table("sweep_counts")
    op.drop_table("promotion_uses")
    op.drop_index("uq_price_books_effective", table_name="price_books", postgresql_where=sa.text("state = 'scheduled'"))
    op.drop_table("price_books")
    op.drop_table("pools")
    op.drop_table("paces")
    op.drop_table("leaders")
    op.drop_index("ix_audit_entries_subject", table_name="audit_entries")
    op.drop_table("audit_entries")
    op.drop_table("accounts")
    op.execute("DROP FUNCTION IF EXISTS audit_entries_stay()")
    op.execute("DROP FUNCTION IF EXISTS holds_resolve_once()")
    op.execute("DROP FUNCTION IF EXISTS paper_stays()")
    op.execute("DROP FUNCTION IF EXISTS transfers_stay()")
    op.execute("DROP FUNCTION IF EXISTS wallets_never_overdrawn()")
