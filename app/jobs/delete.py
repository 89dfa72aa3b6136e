"""Delete an ended job and its files. Receipt and ledger entries are never deleted."""

from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.jobs.file_references import child_of
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.storage import get_storage


def delete(session: Session, job: Job) -> None:
    """Delete a final job from the caller's lists and its links; the caller holds the row's lock.

    Its files expire now, and retention removes them a moment later: no request waits for the store.
    Raises AppError `not_finished` for a job that has not ended, and `conflict` while another job needs its files.
    """
    if not is_final(job.state):
        raise AppError("not_finished", "The video has not ended yet; cancel it first.", state=job.state)
    child = session.scalar(child_of(job.id))
    if child is not None:
        message = "Another video is being made from this one; delete this one after that has ended."
        raise AppError("conflict", message, video=child)
    job.deleted_at = job.files_expire_at = now(session)


def remove_files(job_id: str) -> int:
    """Delete the film, its pictures and the clips of all takes from storage. Returns the number of files.

    Deleting twice is harmless. Nobody holds a session meanwhile.
    """
    storage = get_storage()
    prefixes = [f"films/{job_id}/", f"takes/{job_id}/"]
    keys = [stat.key for prefix in prefixes for stat in storage.list(prefix)]
    for key in keys:
        storage.delete(key)
    return len(keys)
