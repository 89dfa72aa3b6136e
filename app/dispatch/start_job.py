"""Start a job with the first lease of one of its units."""

from sqlalchemy.orm import Session

from app.clock import now
from app.db import after_commit
from app.jobs.plan import FINISH_POOL
from app.jobs.publish_event import new_job_event
from app.jobs.states import JobState, Stage, advance
from app.jobs.tables import Job
from app.metrics import WAIT_SECONDS
from app.progress import publish_after_commit
from app.sql_statements import SqlStatement, mark_written, row_columns, row_of, sql_file

# The job, and what its event has to know.
_READ = SqlStatement(f"""
    SELECT {row_columns(Job, "j")},
        (SELECT coalesce(max(sequence), 0) FROM events WHERE job_id = :job_id) AS last_sequence,
        -- As app.webhooks.fanout.subscribed_endpoints.
        (SELECT json_agg(json_build_array(e.id, e.event_types))
         FROM webhook_endpoints AS e
         WHERE e.account_id = j.account_id AND e.kind = 'registered' AND e.test = j.test
           AND e.disabled_at IS NULL AND e.deleted_at IS NULL
           AND (e.project_id IS NULL OR e.project_id = j.project_id)) AS endpoints
    FROM jobs AS j WHERE j.id = :job_id
""")
_WRITE = sql_file("app.dispatch", "start_write.sql")


def start_job(session: Session, job_id: str, pool: str) -> None:
    """Write that a job has started, by a lease of a pool, with its event. The caller holds the job and its share."""
    moment = now(session)
    facts = _READ.run(session, {"job_id": job_id}).one()
    job = row_of(session, Job, "j", facts)
    account = {"account_id": job.account_id, "project_id": job.project_id, "test": job.test}
    advance(job, JobState.IN_PROGRESS, at=moment)
    job.stage = Stage.FINISHING if pool == FINISH_POOL else Stage.RENDERING
    job.promote_at = None
    event = new_job_event(
        session, job, "video.started", sequence=facts.last_sequence + 1, endpoints=facts.endpoints or ()
    )
    inputs = {"job_id": job.id, "state": job.state, "started_at": moment, "stage": job.stage}
    _WRITE.run(session, event.inputs() | account | inputs, flush=False)
    mark_written(job, "state", "started_at", "stage", "promote_at")
    publish_after_commit(session, job.id, {"type": event.event.type})
    waited = (moment - job.created_at).total_seconds()
    waits = WAIT_SECONDS.labels(pool, str(job.spec["service_tier"]))
    after_commit(session, lambda: waits.observe(waited))
