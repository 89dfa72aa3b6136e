"""The table of the metadata by which jobs are found."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, install_trigger


class JobMetadata(Base):
    """One entry of a job's metadata, by which an account's jobs are found in the order of their time.

    It repeats what the job's row holds, so that a page of such a list reads a part of one index.
    """

    __tablename__ = "job_metadata"
    __table_args__ = (Index("ix_job_metadata_found", "account_id", "name", "value", "created_at", "job_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    account_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)


install_trigger(
    Base.metadata.tables["job_metadata"],
    """
    CREATE OR REPLACE FUNCTION jobs_list_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO job_metadata (job_id, name, value, account_id, created_at)
        SELECT NEW.id, m.key, m.value, NEW.account_id, NEW.created_at FROM jsonb_each_text(NEW.metadata) AS m
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER jobs_list_metadata AFTER INSERT ON jobs
    FOR EACH ROW WHEN (NEW.metadata <> '{}') EXECUTE FUNCTION jobs_list_metadata()
    """,
)
