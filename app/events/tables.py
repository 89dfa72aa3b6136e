"""Tables of the outbox."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, install_trigger
from app.events.types import TERMINAL_TYPES

_TERMINAL = ", ".join(f"'{type_}'" for type_ in TERMINAL_TYPES)


class Event(Base):
    """A fact that an account is notified of. Its body is stored byte for byte as it is sent, and never changes.

    `sequence` counts the events of one job. `position` counts the events of one account in the order of the feed; it is
    NULL until the feed first returns the event (see feed.py).
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("job_id", "sequence"),
        # Webhook signatures cover the id, with a full stop as the separator.
        CheckConstraint("id !~ '[.]'", name="id_without_dots"),
        CheckConstraint("(job_id IS NULL) = (sequence IS NULL)", name="sequence_of_job"),
        Index("uq_events_terminal", "job_id", unique=True, postgresql_where=text(f"type IN ({_TERMINAL})")),
        # Partial, so that numbering an event does not wait for the foreign keys of its deliveries.
        Index(
            "uq_events_position", "account_id", "position", unique=True, postgresql_where=text("position IS NOT NULL")
        ),
        Index("ix_events_unplaced", "account_id", "occurred_at", postgresql_where=text("position IS NULL")),
        Index("ix_events_account_occurred", "account_id", "occurred_at"),
        # For the audit: each of these belongs to an erasure.
        Index("ix_events_erased", "account_id", postgresql_where=text("erased_hash IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str | None] = mapped_column(Text)  # no foreign key: the package jobs is above events
    test: Mapped[bool] = mapped_column(default=False)
    type: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int | None] = mapped_column(Integer)
    position: Mapped[int | None] = mapped_column(BigInteger)
    body: Mapped[str] = mapped_column(Text)
    callback_url: Mapped[str | None] = mapped_column(Text)
    callback_body: Mapped[str | None] = mapped_column(Text)  # what the callback URL gets in place of `body`
    occurred_at: Mapped[datetime] = mapped_column(Moment)
    traceparent: Mapped[str | None] = mapped_column(
        Text
    )  # of the request that created the job; deliveries join its trace
    request_id: Mapped[str | None] = mapped_column(Text)  # of the same request, for the log lines of deliveries
    # The salted hash of a body whose personal values are erased, in hex; seals have it in place of the body.
    erased_hash: Mapped[str | None] = mapped_column(Text)


install_trigger(
    Base.metadata.tables["events"],
    # Deliveries are sent and signed from the stored body, and positions are the feed's cursors.
    """
    CREATE OR REPLACE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.position IS NULL THEN
            OLD.position := NEW.position;
            IF NEW IS NOT DISTINCT FROM OLD THEN
                RETURN NEW;
            END IF;
        END IF;
        IF TG_OP = 'UPDATE' AND current_setting('cinemeter.erasing', true) = 'on' AND NEW.erased_hash IS NOT NULL
            AND to_jsonb(NEW) - '{body,callback_url,callback_body,traceparent,request_id,erased_hash}'::text[]
              = to_jsonb(OLD) - '{body,callback_url,callback_body,traceparent,request_id,erased_hash}'::text[] THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'an event is never changed or removed; only its place in the feed is written, and once';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER events_stay BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_stay()
    """,
)
