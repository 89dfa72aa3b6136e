"""Rows of prices: stored books and contracts, and what promotions have left."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, install_trigger, one_of
from app.prices.parse_cache import cached_book, cached_contract
from pricing.book import PriceBook
from pricing.contract import Contract


class PriceDocumentState(StrEnum):
    """How far a book or contract has come. `published` is never stored: it is a schedule whose time has come."""

    DRAFT = "draft"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


STORED_STATES = tuple(state for state in PriceDocumentState if state is not PriceDocumentState.PUBLISHED)


class PriceDocument:
    """The columns that books and contracts share: text, state from draft to effect, and who did what.

    Only a draft's text may change; after that a trigger keeps the row unchanged.
    """

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    toml: Mapped[str] = mapped_column(Text, deferred=True)
    content_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=PriceDocumentState.DRAFT)
    note: Mapped[str] = mapped_column(Text, default="")
    author: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    edited_at: Mapped[datetime] = mapped_column(Moment)
    approver: Mapped[str | None] = mapped_column(Text)
    approved_at: Mapped[datetime | None] = mapped_column(Moment)
    sole_admin: Mapped[bool] = mapped_column(default=False)  # approved by its author, as nobody else could
    scheduled_by: Mapped[str | None] = mapped_column(Text)
    scheduled_at: Mapped[datetime | None] = mapped_column(Moment)
    effective_at: Mapped[datetime | None] = mapped_column(Moment)
    withdrawn_by: Mapped[str | None] = mapped_column(Text)
    withdrawn_at: Mapped[datetime | None] = mapped_column(Moment)

    def state_at(self, at: datetime) -> PriceDocumentState:
        """Return the state at a moment: a schedule takes effect by time alone."""
        if self.state == PriceDocumentState.SCHEDULED and self.effective_at is not None and self.effective_at <= at:
            return PriceDocumentState.PUBLISHED
        return PriceDocumentState(self.state)


def _lifecycle_constraints() -> tuple[CheckConstraint, ...]:
    return (
        one_of("state", STORED_STATES),
        CheckConstraint("approver IS NULL OR approver <> author OR sole_admin", name="approver_is_not_author"),
        CheckConstraint("state NOT IN ('approved', 'scheduled') OR approver IS NOT NULL", name="approved_by_somebody"),
        CheckConstraint("state <> 'scheduled' OR effective_at IS NOT NULL", name="scheduled_has_moment"),
        CheckConstraint("(state = 'withdrawn') = (withdrawn_at IS NOT NULL)", name="withdrawn_has_moment"),
    )


class StoredBook(PriceDocument, Base):
    """A price book. In force is the scheduled one with the latest effective moment that has come."""

    __tablename__ = "price_books"
    __table_args__ = (
        *_lifecycle_constraints(),
        # Two books may not take effect at one moment: which of them would be in force?
        Index("uq_price_books_effective", "effective_at", unique=True, postgresql_where=text("state = 'scheduled'")),
        # For the admins' inbox: what waits for an approval or a schedule.
        Index("ix_price_books_waiting", "edited_at", postgresql_where=text("state IN ('draft', 'approved')")),
    )

    based_on: Mapped[str | None] = mapped_column(ForeignKey("price_books.id"))  # NULL for the first book

    @property
    def book(self) -> PriceBook:
        """The parsed book."""
        return cached_book(self.content_hash, lambda: self.toml)


class StoredContract(PriceDocument, Base):
    """An account's own rates, which take the place of list prices from their effective moment until they end."""

    __tablename__ = "contracts"
    __table_args__ = (
        *_lifecycle_constraints(),
        CheckConstraint("ends_at > effective_at", name="ends_after_effect"),
        Index(
            "uq_contracts_effective",
            "account_id",
            "effective_at",
            unique=True,
            postgresql_where=text("state = 'scheduled'"),
        ),
        Index("ix_contracts_waiting", "edited_at", postgresql_where=text("state IN ('draft', 'approved')")),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    based_on: Mapped[str | None] = mapped_column(ForeignKey("contracts.id"))  # NULL for the account's first
    ends_at: Mapped[datetime | None] = mapped_column(Moment)  # set when it is ended before its own window does

    @property
    def contract(self) -> Contract:
        """The parsed contract."""
        return cached_contract(self.content_hash, lambda: self.toml)


class FreeUse(Base):
    """How much of its monthly free seconds an account has reserved and spent in one billing month."""

    __tablename__ = "free_uses"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved_not_negative"),
        CheckConstraint("spent >= 0", name="spent_not_negative"),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    month: Mapped[str] = mapped_column(Text, primary_key=True)
    reserved: Mapped[int] = mapped_column(BigInteger, default=0)  # flicks: 1/705,600,000 of a second
    spent: Mapped[int] = mapped_column(BigInteger, default=0)


class PromotionUse(Base):
    """How much discount a promotion has reserved and given to one account."""

    __tablename__ = "promotion_uses"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved_not_negative"),
        CheckConstraint("spent >= 0", name="spent_not_negative"),
    )

    promotion: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(Text, primary_key=True)
    reserved: Mapped[int] = mapped_column(BigInteger, default=0)  # minor units of discount
    spent: Mapped[int] = mapped_column(BigInteger, default=0)


class PromotionShard(Base):
    """A part of what a promotion's budget for all accounts has left; see `app.prices.promotion_budgets`."""

    __tablename__ = "promotion_shards"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    promotion: Mapped[str] = mapped_column(Text, primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    budget: Mapped[int] = mapped_column(BigInteger)  # minor units: the whole budget that was divided
    room: Mapped[int] = mapped_column(BigInteger)  # minor units


class Reservation(Base):
    """The free seconds and promotion budget that one quote (or one job without a quote) has set aside."""

    __tablename__ = "reservations"
    __table_args__ = (
        one_of("state", ("held", "settled", "returned")),
        CheckConstraint("free_used BETWEEN 0 AND free", name="free_used_within_free"),
        CheckConstraint("(state = 'held') = (resolved_at IS NULL)", name="resolved_has_moment"),
        # Open ones have no such moment.
        Index("ix_reservations_resolved", "resolved_at"),
    )

    quote_id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    month: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default="held")
    free: Mapped[int] = mapped_column(BigInteger, default=0)  # flicks
    free_used: Mapped[int] = mapped_column(BigInteger, default=0)
    promotions: Mapped[dict[str, int]] = mapped_column(JSONB)  # promotion -> minor units of discount set aside
    promotions_used: Mapped[dict[str, int]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(Moment)
    resolved_at: Mapped[datetime | None] = mapped_column(Moment)


_KEEP_HISTORY = """
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

# No code does this, and nobody should by hand.
install_trigger(
    Base.metadata.tables["price_books"],
    _KEEP_HISTORY,
    """
    CREATE OR REPLACE TRIGGER price_books_stay BEFORE UPDATE OR DELETE ON price_books
    FOR EACH ROW EXECUTE FUNCTION paper_stays()
    """,
)
install_trigger(
    Base.metadata.tables["contracts"],
    _KEEP_HISTORY,
    """
    CREATE OR REPLACE TRIGGER contracts_stay BEFORE UPDATE OR DELETE ON contracts
    FOR EACH ROW EXECUTE FUNCTION paper_stays()
    """,
)
