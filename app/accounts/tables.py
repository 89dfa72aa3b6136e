"""Rows of customers: accounts, projects, members, invitations, keys and membership periods."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    Text,
    false,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of
from app.provenance.label_policy import VisibleLabel
from app.roles import Role, Scope


class AccountKind(StrEnum):
    """How an account pays: from what it has put in, or by invoice up to a credit limit."""

    PREPAID = "prepaid"
    INVOICED = "invoiced"


class ModerationLevel(StrEnum):
    """How an account's orders are moderated: what others have reviewed is refused to a strict one, and more."""

    STANDARD = "standard"
    STRICT = "strict"


def _subset(column: str, words: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} <@ ARRAY[{listed}]::text[]", name=column)


class Account(Base):
    """A customer: the unit that owns jobs, keys and one wallet, and that no other customer can see into."""

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("kind", AccountKind),
        one_of("visible_label", VisibleLabel),
        one_of("moderation_level", ModerationLevel),
        CheckConstraint("concurrency > 0", name="concurrency_positive"),
        CheckConstraint("queue_limit >= 0", name="queue_limit_not_negative"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text, default=AccountKind.PREPAID)
    currency: Mapped[str] = mapped_column(Text)
    billing_zone: Mapped[str] = mapped_column(Text)  # IANA name; its months are the account's billing months
    test: Mapped[bool] = mapped_column(default=False)  # may only have test keys
    # An operator's own figures for this account; NULL leaves what the membership says.
    concurrency: Mapped[int | None] = mapped_column(Integer)
    queue_limit: Mapped[int | None] = mapped_column(Integer)
    # The label that the account's films show; NULL leaves the setting's.
    visible_label: Mapped[str | None] = mapped_column(Text)
    moderation_level: Mapped[str] = mapped_column(Text, default=ModerationLevel.STANDARD, server_default="standard")
    # Whether it has to declare that it may use the files that it sends, and when an owner declared it for all of them.
    declarations_required: Mapped[bool] = mapped_column(default=False, server_default=false())
    rights_declared_at: Mapped[datetime | None] = mapped_column(Moment)
    rights_declared_by: Mapped[str | None] = mapped_column(Text)
    suspended_at: Mapped[datetime | None] = mapped_column(Moment)
    suspended_reason: Mapped[str | None] = mapped_column(Text)
    # What seals hash the account's events and reasons with. An erasure removes it: no hash then tells a value.
    salt: Mapped[str | None] = mapped_column(
        Text, server_default=text("gen_random_uuid()::text || gen_random_uuid()::text"), deferred=True
    )
    created_at: Mapped[datetime] = mapped_column(Moment)


class Project(Base):
    """A business unit of an account, with a budget per billing month."""

    __tablename__ = "projects"
    __table_args__ = (
        Index("uq_projects_name", "account_id", "name", unique=True, postgresql_where=text("archived_at IS NULL")),
        CheckConstraint("budget_month >= 0", name="budget_month_not_negative"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(Text)
    budget_month: Mapped[int | None] = mapped_column(BigInteger)  # minor units; NULL: no budget of its own
    alert_month: Mapped[int | None] = mapped_column(BigInteger)  # minor units of a month to notify of; NULL: none
    alert_told_month: Mapped[str | None] = mapped_column(Text)  # the last billing month whose alert was sent
    archived_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Member(Base):
    """A person who signs in for an account."""

    __tablename__ = "members"
    __table_args__ = (
        _subset("roles", Role),
        CheckConstraint("email = lower(email)", name="email_lower"),
        Index("uq_members_email", "email", unique=True, postgresql_where=text("removed_at IS NULL")),
        Index("ix_members_account", "account_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text, default="")
    password_hash: Mapped[str | None] = mapped_column(Text)  # argon2id; NULL until a password is chosen
    language: Mapped[str | None] = mapped_column(Text)  # of the pages; NULL leaves it to the browser
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    zone: Mapped[str | None] = mapped_column(Text)  # of the times on pages; NULL: the account's billing zone
    last_signed_in_at: Mapped[datetime | None] = mapped_column(Moment)
    removed_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Invitation(Base):
    """An invitation that lets one person join an account once, before it expires."""

    __tablename__ = "invitations"
    __table_args__ = (
        _subset("roles", Role),
        CheckConstraint("accepted_at IS NULL OR revoked_at IS NULL", name="one_end"),
        Index("ix_invitations_account", "account_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    email: Mapped[str] = mapped_column(Text)
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    token_hash: Mapped[str] = mapped_column(Text, unique=True)
    invited_by: Mapped[str] = mapped_column(Text)
    accepted_by: Mapped[str | None] = mapped_column(ForeignKey("members.id"))
    accepted_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)


class ApiKey(Base):
    """A key, of which only the hash is kept. A test key renders colour bars, costs nothing and sees only test jobs."""

    __tablename__ = "api_keys"
    __table_args__ = (
        _subset("scopes", Scope),
        _subset("roles", Role),
        CheckConstraint("roles = '{}' OR 'admin' = ANY (scopes)", name="roles_need_admin"),
        CheckConstraint("budget_total >= 0", name="budget_total_not_negative"),
        CheckConstraint("job_cap >= 0", name="job_cap_not_negative"),
        Index("ix_api_keys_account", "account_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    member_id: Mapped[str | None] = mapped_column(ForeignKey("members.id"))  # who made it and answers for it
    issued_by: Mapped[str | None] = mapped_column(Text)  # the person who gave out a key with roles; they saw it
    name: Mapped[str] = mapped_column(Text, default="")
    keyid: Mapped[str] = mapped_column(Text, unique=True)  # the readable part by which it is looked up
    secret_hash: Mapped[str] = mapped_column(Text)  # SHA-256 of the whole key, in hex
    last4: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    test: Mapped[bool] = mapped_column(default=False)
    budget_total: Mapped[int | None] = mapped_column(BigInteger)  # minor units over the key's whole life
    job_cap: Mapped[int | None] = mapped_column(BigInteger)  # minor units that one job may cost at most
    lineage: Mapped[str] = mapped_column(Text)  # id of the first key it was rotated from: they share one budget
    replaced_by: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)


# Exclusion over a text column needs btree_gist, which embedded servers lack. A one-point range over the id's
# 64-bit hash needs nothing; two accounts that share a hash (once in 2^64 pairs) would only be refused a period.
_ACCOUNT_POINT: ColumnElement[object] = literal_column(
    "numrange(hashtextextended(account_id, 0)::numeric, hashtextextended(account_id, 0)::numeric, '[]')"
)


class MembershipPeriod(Base):
    """A membership that an account holds from its start up to, and not including, its end."""

    __tablename__ = "membership_periods"
    __table_args__ = (
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        ExcludeConstraint(
            (_ACCOUNT_POINT, "&&"),
            (func.tstzrange(literal_column("starts_at"), literal_column("ends_at"), literal_column("'[)'")), "&&"),
            name="ex_membership_periods_overlap",
            using="gist",
        ),
        Index("ix_membership_periods_account", "account_id", "starts_at"),
        # For the number of accounts that have a membership.
        Index("ix_membership_periods_name", "name"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(Moment)
    ends_at: Mapped[datetime | None] = mapped_column(Moment)  # NULL: until somebody ends it
    created_at: Mapped[datetime] = mapped_column(Moment)
