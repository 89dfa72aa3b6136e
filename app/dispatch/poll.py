"""Read a job for a poll: its row, its forecast and what it cost, by one statement of indexed reads."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, inspect

from app.accounts.key_holder import KeyHolder
from app.dispatch.eta import JOB_FACTS_SQL, Outlook, forecast_inputs, outlook_of
from app.errors import not_found
from app.jobs.meter import add_meters
from app.jobs.present import show_job
from app.jobs.schemas import MeterOut, VideoOut
from app.jobs.tables import Job
from app.sql_statements import SqlStatement

# What answers show of a job. Each column more costs every poll.
_SHOWN = (
    *("id", "model", "model_alias", "state", "stage", "progress", "prompt", "test", "project_id", "spec", "price"),
    *("currency", "extra", "resolved", "parent_id", "parent_kind", "group_id", "retention", "created_at", "started_at"),
    *(
        "finished_at",
        "start_by",
        "not_after",
        "review_due_at",
        "film",
        "film_key",
        "files_expire_at",
        "files_removed_at",
    ),
    *("links_revoked", "error_code", "error_message"),
)
_COLUMNS = ", ".join(f'j."{inspect(Job).column_attrs[name].columns[0].name}" AS {name}' for name in _SHOWN)
_POLL = SqlStatement(f"""{JOB_FACTS_SQL}
SELECT {_COLUMNS}, facts.*, r.total AS receipt_total, CASE WHEN j.finished_at IS NOT NULL THEN (
    SELECT coalesce(jsonb_agg(jsonb_build_array(t.meter, CAST(t.gpu_seconds AS text))), '[]')
    FROM takes AS t WHERE t.job_id = j.id AND t.state <> 'running'
) END AS meters
FROM jobs AS j
LEFT JOIN facts ON facts.facts_id = j.id
LEFT JOIN receipts AS r ON r.job_id = j.id
WHERE j.id = :job_id AND j.account_id = :account_id AND j.test = :test AND j.deleted_at IS NULL
    AND (CAST(:project_id AS text) IS NULL OR j.project_id = :project_id)
""")
_PROGRESS = SqlStatement(f"""{JOB_FACTS_SQL}
SELECT j.state, j.stage, j.progress, facts.*, (
    SELECT coalesce(json_agg(json_build_array(e.sequence, e.type, e.body) ORDER BY e.sequence), '[]')
    FROM events AS e WHERE e.job_id = j.id AND e.sequence > :seen
) AS events
FROM jobs AS j
LEFT JOIN facts ON facts.facts_id = j.id
WHERE j.id = :job_id
""")
NO_OUTLOOK = Outlook(None, None, None, None)


@dataclass(frozen=True)
class PolledCharge:
    """The total of a receipt, in minor units."""

    total: int


@dataclass(frozen=True)
class PolledJob:
    """A job as a poll reads it: the columns that answers show, by the names of `Job`, and its forecast."""

    row: Any
    outlook: Outlook

    def video(self) -> VideoOut:
        """Return the job in the native format, with its queue position or with its charge and its meter."""
        total = self.row.receipt_total
        return show_job(
            self.row,
            receipt=None if total is None else PolledCharge(total),
            queue_position=self.outlook.position,
            eta=self.outlook.eta(),
            meter=self.meter(),
        )

    def meter(self) -> MeterOut | None:
        """Return what the takes of an ended job used, or None while it has not ended."""
        if self.row.meters is None:
            return None
        return add_meters((meter, Decimal(gpu_seconds)) for meter, gpu_seconds in self.row.meters)


@dataclass(frozen=True)
class StoredEvent:
    """An event as it is stored: its number within the job, its type, and its body as JSON."""

    sequence: int
    type: str
    body: str


def poll_job(connection: Connection, holder: KeyHolder, job_id: str) -> PolledJob:
    """Return a job of a key's holder, read by one statement, and by another when the queue of its pool has changed.

    Raises AppError `not_found`, the same for another tenant's job.
    """
    inputs = {
        "account_id": holder.account_id,
        "test": holder.test,
        "project_id": holder.project_id,
        **forecast_inputs([job_id]),
    }
    row = _POLL.run_on(connection, inputs).one_or_none()
    if row is None:
        raise not_found("video", job_id)
    return PolledJob(row, NO_OUTLOOK if row.facts_id is None else outlook_of(connection, row))


def read_progress(connection: Connection, job_id: str, seen: int) -> tuple[list[StoredEvent], dict[str, Any]]:
    """Return a job's events after the sequence `seen`, oldest first, and the facts of its progress.

    Raises sqlalchemy.exc.NoResultFound for a job that does not exist.
    """
    row = _PROGRESS.run_on(connection, {"seen": seen, **forecast_inputs([job_id])}).one()
    facts: dict[str, Any] = {"progress": row.progress}
    if row.facts_id is not None:
        outlook = outlook_of(connection, row)
        facts |= {"stage": row.stage, "queue_position": outlook.position, "eta": outlook.eta()}
    return [StoredEvent(*event) for event in row.events], facts
