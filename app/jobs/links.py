"""Expiring links to a film, for clients that download without a key: `/files/{token}`."""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.settings import get_settings
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

VARIANTS = ("video", "thumbnail", "spritesheet", "waveform")
LINK_SECONDS = 86_400


def make_link(session: Session, job: Job, variant: str = "video") -> str:
    """Return a URL that delivers a variant of a job's film for a day without a key."""
    expires_at = now(session) + timedelta(seconds=LINK_SECONDS)
    return f"{get_settings().base_url()}/files/{sign_token(TokenPurpose.FILM, job.id, variant, expires_at=expires_at)}"


def open_link(session: Session, token: str) -> tuple[Job, str]:
    """Return the job and variant of a token. Raises AppError `not_found` for an invalid one, `gone` when expired."""
    not_found = AppError("not_found", "There is no file at this URL.")
    try:
        link = read_token(TokenPurpose.FILM, token)
        job_id, variant = link.values
    except (InvalidToken, ValueError):
        raise not_found from None
    if variant not in VARIANTS:
        raise not_found
    if link.has_expired(now(session)):
        raise AppError("gone", "This link has expired; request a new one.")
    job = session.get(Job, job_id)
    if job is None or job.deleted_at is not None:
        raise not_found
    return job, variant
