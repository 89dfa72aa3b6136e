"""Rows of the ledger: wallets, transfers, holds, credit lots and budgets.

Every transfer has a debit side (which gives) and a credit side (which gets), so transfers sum to zero by their shape.
A wallet's `posted` is what its transfers add up to; its `held` is what its open holds add up to.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, literal_column, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, append_only, install_trigger, one_of


class TransferKind(StrEnum):
    """Why money moved."""

    PURCHASE = "purchase"
    GRANT = "grant"
    CAPTURE = "capture"
    REFUND = "refund"
    CORRECTION = "correction"
    EXPIRY = "expiry"
    REGRANT = "regrant"


# The internal account on the other side of a wallet, for each kind of transfer.
INTERNAL_ACCOUNT: dict[TransferKind, str] = {
    TransferKind.PURCHASE: "funding",
    TransferKind.GRANT: "promo_expense",
    TransferKind.CAPTURE: "revenue",
    TransferKind.REFUND: "refunds",
    TransferKind.CORRECTION: "corrections",
    TransferKind.EXPIRY: "breakage",
    TransferKind.REGRANT: "breakage",
}


class HoldState(StrEnum):
    """A hold is resolved once."""

    HELD = "held"
    CAPTURED = "captured"
    RELEASED = "released"


class LotKind(StrEnum):
    """Where a credit lot came from. Granted lots are spent before purchased ones that expire at the same time."""

    PURCHASED = "purchased"
    GRANTED = "granted"


class DrawCause(StrEnum):
    """Why a lot was drawn other than through a hold."""

    EXPIRY = "expiry"
    CORRECTION = "correction"
    DEBT = "debt"  # it paid what the credit limit had covered


class BudgetScope(StrEnum):
    """Whose spending a budget bounds."""

    KEY = "key"
    PROJECT = "project"


class Wallet(Base):
    """An account's money. What a new hold may take of it is `app.wallet.balance.available_now`."""

    __tablename__ = "wallets"
    __table_args__ = (
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("credit_limit >= 0", name="credit_limit_not_negative"),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    currency: Mapped[str] = mapped_column(Text)
    posted: Mapped[int] = mapped_column(BigInteger, default=0)  # minor units, as all amounts here
    held: Mapped[int] = mapped_column(BigInteger, default=0)
    credit_limit: Mapped[int] = mapped_column(BigInteger, default=0)
    low_balance: Mapped[int | None] = mapped_column(BigInteger)  # the owner is notified when available falls below this
    low_balance_told_at: Mapped[datetime | None] = mapped_column(Moment)
    # The number of the newest receipt, of live jobs and of test jobs. They are counted here because each settlement
    # locks this row anyway (decision 0173).
    live_receipts: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    test_receipts: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(Moment)


class Transfer(Base):
    """Money moved once between a wallet and an internal account. Never changed; mistakes get a new one."""

    __tablename__ = "transfers"
    __table_args__ = (
        one_of("kind", TransferKind),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit <> credit", name="two_sides"),
        CheckConstraint("'wallet:' || account_id IN (debit, credit)", name="touches_its_wallet"),
        CheckConstraint(
            "CASE kind WHEN 'purchase' THEN debit = 'funding' WHEN 'grant' THEN debit = 'promo_expense'"
            " WHEN 'capture' THEN credit = 'revenue' WHEN 'refund' THEN debit = 'refunds'"
            " WHEN 'expiry' THEN credit = 'breakage' WHEN 'regrant' THEN debit = 'breakage'"
            " ELSE 'corrections' IN (debit, credit) END",
            name="sides_of_kind",
        ),
        Index("ix_transfers_account_at", "account_id", "at"),
        Index("ix_transfers_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        # For audits of the months that are not sealed, and for the refunds of a day.
        Index("ix_transfers_at", "at"),
        Index("ix_transfers_refunds", "at", postgresql_where=text("kind = 'refund'")),
        Index("uq_transfers_capture", "job_id", unique=True, postgresql_where=text("kind = 'capture'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("wallets.account_id"))
    debit: Mapped[str] = mapped_column(Text)  # the side that gives: `wallet:acct_…` or an internal account
    credit: Mapped[str] = mapped_column(Text)  # the side that gets
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str | None] = mapped_column(Text)
    reference: Mapped[str] = mapped_column(Text, unique=True)  # what makes a repeated order the same order
    reason: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(Moment)


class Hold(Base):
    """Money set aside for one job until the job ends. One job has one hold in its life, so one open hold at most."""

    __tablename__ = "holds"
    __table_args__ = (
        one_of("state", HoldState),
        CheckConstraint("amount >= 0", name="amount_not_negative"),
        CheckConstraint("captured_amount BETWEEN 0 AND amount", name="captured_within_amount"),
        CheckConstraint("state = 'captured' OR captured_amount = 0", name="captured_only_if_captured"),
        CheckConstraint("(state = 'held') = (resolved_at IS NULL)", name="resolved_has_moment"),
        Index("ix_holds_open", "account_id", postgresql_where=text("state = 'held'")),
        Index("ix_holds_resolved", "resolved_at", postgresql_where=text("resolved_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(Text, unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("wallets.account_id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    month: Mapped[str] = mapped_column(Text)  # billing month of acceptance, `2026-05`: the one its budgets count in
    amount: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text, default=HoldState.HELD)
    captured_amount: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(Moment)
    resolved_at: Mapped[datetime | None] = mapped_column(Moment)


class CreditLot(Base):
    """One incoming amount, spent as a unit with its own expiry.

    What remains is its amount, less what open holds pin, less what resolved holds used and no refund gave back, less
    its draws. A refund makes lots only of what the credit limit had covered; the rest goes back to the lots it was
    taken from.
    """

    __tablename__ = "credit_lots"
    __table_args__ = (
        one_of("kind", LotKind),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("remaining BETWEEN 0 AND amount", name="remaining_within_amount"),
        UniqueConstraint("transfer_id", "kind"),
        Index("ix_credit_lots_open", "account_id", postgresql_where=text("remaining > 0")),
        Index("ix_credit_lots_expiry", "expires_at", postgresql_where=text("remaining > 0 AND expires_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("wallets.account_id"))
    kind: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    remaining: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    transfer_id: Mapped[str] = mapped_column(ForeignKey("transfers.id"))
    created_at: Mapped[datetime] = mapped_column(Moment)


# Written out, or the planner could not tell from a prepared statement that the partial indexes have all such lots.
IS_OPEN = CreditLot.remaining > literal_column("0")


class HoldSlice(Base):
    """The part of a lot that a hold pins. What a hold has beyond its slices is covered by the credit limit."""

    __tablename__ = "hold_slices"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("used BETWEEN 0 AND amount", name="used_within_amount"),
        CheckConstraint("refunded BETWEEN 0 AND coalesce(used, 0)", name="refunded_within_used"),
        Index("ix_hold_slices_lot", "lot_id"),
        Index("ix_hold_slices_refunded", "lot_id", postgresql_where=text("refunded > 0")),
    )

    hold_id: Mapped[str] = mapped_column(ForeignKey("holds.id"), primary_key=True)
    lot_id: Mapped[str] = mapped_column(ForeignKey("credit_lots.id"), primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[int | None] = mapped_column(BigInteger)  # what the capture took; NULL while the hold is open
    refunded: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # what of it refunds gave back


class LotDraw(Base):
    """What left a lot other than through a hold: an expiry, a correction, or a debt that it paid."""

    __tablename__ = "lot_draws"
    __table_args__ = (
        one_of("cause", DrawCause),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("ix_lot_draws_lot", "lot_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    lot_id: Mapped[str] = mapped_column(ForeignKey("credit_lots.id"))
    transfer_id: Mapped[str] = mapped_column(ForeignKey("transfers.id"))  # the transfer that made it necessary
    amount: Mapped[int] = mapped_column(BigInteger)
    cause: Mapped[str] = mapped_column(Text)


class Budget(Base):
    """What a key in its whole life, or a project in one billing month, has held and spent.

    The limit stands on the key or the project, so that it can be lowered under open holds; it binds new holds only.
    """

    __tablename__ = "budgets"
    __table_args__ = (
        one_of("scope", BudgetScope),
        UniqueConstraint("scope", "subject_id", "month"),
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("spent >= 0", name="spent_not_negative"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    scope: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[str] = mapped_column(Text)
    month: Mapped[str] = mapped_column(Text, default="")  # empty for a key, whose budget is for its whole life
    held: Mapped[int] = mapped_column(BigInteger, default=0)
    spent: Mapped[int] = mapped_column(BigInteger, default=0)


# No code does this, and nobody should by hand.
append_only(
    Base.metadata.tables["transfers"],
    "a transfer is never changed or removed; book a new one",
    erasable="reason",
)
append_only(
    Base.metadata.tables["lot_draws"],
    "what left a credit lot is never changed or removed; credit comes in as a new lot",
)
install_trigger(
    Base.metadata.tables["holds"],
    """
    CREATE OR REPLACE FUNCTION holds_resolve_once() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' OR OLD.state <> 'held' OR NEW.amount <> OLD.amount
            OR NEW.account_id <> OLD.account_id OR NEW.job_id <> OLD.job_id THEN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'a hold is resolved once, and nothing else about it changes';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER holds_resolve_once BEFORE UPDATE OR DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION holds_resolve_once()
    """,
)
install_trigger(
    Base.metadata.tables["wallets"],
    """
    CREATE OR REPLACE FUNCTION wallets_never_overdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.held > OLD.held AND NEW.posted - NEW.held < - NEW.credit_limit THEN
            RAISE EXCEPTION USING ERRCODE = 'check_violation',
                MESSAGE = 'a hold may not take more than the wallet has and its credit limit adds';
        END IF;
        RETURN NEW;
    END $$
    """,
    # A CHECK would also refuse a lowered limit and a booked correction; a limit binds new holds only.
    """
    CREATE OR REPLACE TRIGGER wallets_never_overdrawn BEFORE UPDATE ON wallets
    FOR EACH ROW EXECUTE FUNCTION wallets_never_overdrawn()
    """,
)
