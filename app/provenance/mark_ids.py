"""Which film a watermark names, and the key with which this home draws and reads its watermarks."""

import hmac
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.tables import Job
from app.settings import get_settings


def watermark_key() -> bytes:
    """Return the key of this home's watermarks, 32 bytes, derived from `CINEMETER_SECRET`.

    With another secret, films that were made before have no legible watermark any more.
    """
    return hmac.digest(get_settings().secret_key(), b"watermark", "sha256")


def films_of_marks(session: Session, mark_ids: Sequence[int]) -> list[str]:
    """Return the ids of the films that these marks name, in the same order; a mark of no film is left out."""
    rows = session.execute(select(Job.mark_id, Job.id).where(Job.mark_id.in_(mark_ids)))
    films = {row.mark_id: row.id for row in rows}
    return [films[mark_id] for mark_id in mark_ids if mark_id in films]
