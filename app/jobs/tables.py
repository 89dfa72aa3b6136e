"""Tables of orders: quotes, jobs, receipts, submissions, intake pauses and terms. The queue is in queue_tables.py."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    Sequence,
    SmallInteger,
    Text,
    false,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, column_property, mapped_column

from app.db import Base, Moment, append_only, install_trigger, one_of
from app.jobs.states import JobState, QuoteState, Stage
from app.wallet.number_tables import NUMBER_AT_COMMIT, ReceiptNumber


class Quote(Base):
    """A price that binds until it expires: spec, book, lines and total, redeemed by at most one job."""

    __tablename__ = "quotes"
    __table_args__ = (
        one_of("state", QuoteState),
        CheckConstraint("(state = 'redeemed') = (job_id IS NOT NULL)", name="redeemed_by_job"),
        Index("ix_quotes_open", "account_id", "expires_at", postgresql_where=text("state = 'open'")),
        Index("ix_quotes_first", "first_id", postgresql_where=text("first_id IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    test: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(Text, default=QuoteState.OPEN)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)
    spec_hash: Mapped[str] = mapped_column(Text)
    pricing: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the inputs of price(), frozen
    total: Mapped[int] = mapped_column(BigInteger)  # minor units
    currency: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the response of the API
    job_id: Mapped[str | None] = mapped_column(Text, unique=True)
    first_id: Mapped[str | None] = mapped_column(Text)  # of a further film of an order of several: the order's quote
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)


# Watermarks carry 48 bits.
MARK_IDS = Sequence("mark_ids", maxvalue=2**48 - 1, metadata=Base.metadata)


class Job(Base):
    """One paid order for one film. A final job has exactly one receipt, no open hold and one terminal event."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", JobState),
        one_of("stage", Stage),
        CheckConstraint("(state IN ('queued', 'in_progress')) = (finished_at IS NULL)", name="final_has_end"),
        # An account's films by time, and all by which they are filtered: others are passed over in the index.
        Index(
            "ix_jobs_films",
            *("account_id", "created_at", "id", "test", "model", "project_id", "state"),
            text("(spec ->> 'ratio')"),
        ),
        # For films that were made from one that is removed.
        Index("ix_jobs_parent", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_jobs_open", "account_id", postgresql_where=text("state IN ('queued', 'in_progress')")),
        Index("ix_jobs_deadline", "not_after", postgresql_where=text("state = 'queued' AND not_after IS NOT NULL")),
        Index(
            "ix_jobs_cancel_at",
            "cancel_at",
            postgresql_where=text("state IN ('queued', 'in_progress') AND cancel_at IS NOT NULL"),
        ),
        Index("ix_jobs_promotion", "promote_at", postgresql_where=text("promote_at IS NOT NULL")),
        Index("ix_jobs_queued", "created_at", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_in_progress", "id", postgresql_where=text("state = 'in_progress'")),
        Index("ix_jobs_start_by", "start_by", postgresql_where=text("state = 'queued' AND start_by IS NOT NULL")),
        Index("ix_jobs_finished", "finished_at"),
        # For the operators' list of all films, and of those in one state.
        Index("ix_jobs_created", "created_at", "id"),
        Index("ix_jobs_state_created", "state", "created_at", "id"),
        Index("ix_jobs_model_created", "model", "created_at", "id"),
        # For operators who have the beginning of an id.
        Index("ix_jobs_id_prefix", "id", postgresql_ops={"id": "text_pattern_ops"}),
        Index("ix_jobs_mark_id", "mark_id", postgresql_where=text("mark_id IS NOT NULL")),
        Index("ix_jobs_group", "group_id", "group_index", postgresql_where=text("group_id IS NOT NULL")),
        Index("ix_jobs_retention", "files_expire_at", postgresql_where=text("files_removed_at IS NULL")),
        # A page is pruned once less than this share is free: it must be more than a row, so that progress stays in it.
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    test: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(Text, default=JobState.QUEUED)
    stage: Mapped[str] = mapped_column(Text, default=Stage.WAITING)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)
    spec_hash: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    model_alias: Mapped[str | None] = mapped_column(Text)  # the name by which the model was ordered, if not its id
    pool: Mapped[str] = mapped_column(Text)
    pricing: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the inputs of price(), frozen by the quote
    price: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the price as the API showed it
    quote_id: Mapped[str | None] = mapped_column(Text, unique=True)
    total: Mapped[int] = mapped_column(BigInteger)  # the quoted total, minor units
    list_total: Mapped[int] = mapped_column(BigInteger)  # the same at list price, minor units
    currency: Mapped[str] = mapped_column(Text)
    prompt: Mapped[str] = mapped_column(Text)
    extra: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict)
    resolved: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    door: Mapped[str] = mapped_column(Text, default="native")
    # By what its words were checked (app.moderation); NULL: ordered before there was moderation.
    checked_by: Mapped[str | None] = mapped_column(Text)
    parent_id: Mapped[str | None] = mapped_column(Text)
    parent_kind: Mapped[str | None] = mapped_column(Text)
    group_id: Mapped[str | None] = mapped_column(ForeignKey("job_groups.id"))
    group_index: Mapped[int | None] = mapped_column(SmallInteger)  # from 0, in the order of the seeds
    callback_url: Mapped[str | None] = mapped_column(Text)
    retention: Mapped[dict[str, int] | None] = mapped_column(JSONB)  # seconds after its end, as the order asked for
    # The event types that it is called for with a body of its client's own; NULL: for the end, with our event.
    callback_events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    progress: Mapped[int] = mapped_column(SmallInteger, default=0)  # percent
    units_total: Mapped[int] = mapped_column(Integer)
    units_done: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Moment)
    cancel_at: Mapped[datetime | None] = mapped_column(Moment)  # not finished by then: cancelled
    not_after: Mapped[datetime | None] = mapped_column(Moment)  # not started by then: expired, free
    promote_at: Mapped[datetime | None] = mapped_column(
        Moment
    )  # flex: standard priority from then on; NULL once promoted
    start_by: Mapped[datetime | None] = mapped_column(Moment)  # latest start of priority; when missed, its line drops
    review_due_at: Mapped[datetime | None] = mapped_column(Moment)  # by when the review is decided that it waits for
    film_key: Mapped[str | None] = mapped_column(Text)
    poster_key: Mapped[str | None] = mapped_column(Text)
    sprites_key: Mapped[str | None] = mapped_column(Text)
    film: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # measurements of the stored film
    files_expire_at: Mapped[datetime | None] = mapped_column(Moment)
    files_removed_at: Mapped[datetime | None] = mapped_column(Moment)
    files_retry_at: Mapped[datetime | None] = mapped_column(Moment)  # removing them failed; not tried before
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    links_revoked: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")  # how often
    # What the watermark of its frames carries. Films that were ordered before there were watermarks have none.
    mark_id: Mapped[int | None] = mapped_column(BigInteger, server_default=text("nextval('mark_ids')"))
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    traceparent: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)  # of the call that created it: in each log line about the job


class ReceiptRow(Base):
    """The stored receipt of a job: the canonical bytes, and a few columns to search by."""

    __tablename__ = "receipts"
    __table_args__ = (
        CheckConstraint("total >= 0 AND total <= quoted", name="never_above_quote"),
        # With what the console sums for each account, so that it reads no row.
        Index("ix_receipts_account_totals", "account_id", "settled_at", postgresql_include=["total", "test"]),
        Index("ix_receipts_settled", "settled_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    # Counts the receipts of all accounts. Audits go by it; people see `number`.
    position: Mapped[int] = mapped_column("number", BigInteger, Identity(), unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)  # the job's final state
    currency: Mapped[str] = mapped_column(Text)
    quoted: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)
    list_total: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[str] = mapped_column(Text)  # canonical JSON; `cinemeter replay` computes it again byte for byte
    film_key: Mapped[str | None] = mapped_column(Text)
    film_sha256: Mapped[str | None] = mapped_column(Text)
    # The group of a simulation (pricing.simulation_result.Case), and the job's cost to us.
    pricing_case: Mapped[str] = mapped_column(Text)
    priced_at: Mapped[datetime] = mapped_column(Moment)
    gpu_milliseconds: Mapped[int] = mapped_column(BigInteger, default=0)  # of all takes, lost ones included
    gpu_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 9))  # of them, in the currency; NULL where unknown
    test: Mapped[bool] = mapped_column(default=False)
    settled_at: Mapped[datetime] = mapped_column(Moment)
    # What people see: the number in the account, or that of the row where the receipt is older than such numbers.
    number: Mapped[int] = column_property(
        func.coalesce(
            select(ReceiptNumber.number)
            .where(ReceiptNumber.job_id == job_id)
            .correlate_except(ReceiptNumber)
            .scalar_subquery(),
            position,
        )
    )


append_only(
    Base.metadata.tables["receipts"],
    "a receipt is never changed or removed; what was wrong with it is refunded or corrected",
)
install_trigger(Base.metadata.tables["receipts"], *NUMBER_AT_COMMIT)


class Submission(Base):
    """The record of a create call, so that a repeated call returns the first job."""

    __tablename__ = "submissions"
    __table_args__ = (
        Index("uq_submissions_key", "account_id", "key", unique=True, postgresql_where=text("key IS NOT NULL")),
        Index("ix_submissions_body", "account_id", "fingerprint", "created_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    key: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)  # SHA-256 of method, path and body
    # A client's retry made the job before the call that it repeats has come in.
    overtook: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(Moment)


class IntakePause(Base):
    """No new jobs for a model, an account, one model of one account, or (both empty) at all, until it is resumed."""

    __tablename__ = "intake_pauses"
    __table_args__ = (
        CheckConstraint("(resumed_at IS NULL) = (resumed_by IS NULL)", name="resumed_by_somebody"),
        Index(
            "uq_intake_pauses_open",
            text("coalesce(model, '')"),
            text("coalesce(account_id, '')"),
            unique=True,
            postgresql_where=text("resumed_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str | None] = mapped_column(Text)
    account_id: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"))
    reason: Mapped[str] = mapped_column(Text)
    paused_by: Mapped[str] = mapped_column(Text)
    paused_at: Mapped[datetime] = mapped_column(Moment)
    resumed_by: Mapped[str | None] = mapped_column(Text)
    resumed_at: Mapped[datetime | None] = mapped_column(Moment)


class AcknowledgedTerms(Base):
    """The terms of a model, by the hash of their words, that an operator has accepted for this service."""

    __tablename__ = "acknowledged_terms"

    model: Mapped[str] = mapped_column(Text, primary_key=True)
    terms_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    person: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(Moment)


append_only(Base.metadata.tables["acknowledged_terms"], "what an operator has accepted is never changed")
