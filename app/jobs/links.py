"""Expiring links to a film, for clients that download without a key: `/files/{token}`."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.settings import get_settings
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

VARIANTS = ("video", "thumbnail", "spritesheet", "waveform")
LINK_SECONDS = 86_400


def make_link(session: Session, job: Job, variant: str = "video") -> str:
    """Return a URL that delivers a variant of a job's film for a day without a key, until links are revoked."""
    return make_link_at(now(session), job, variant)


def make_link_at(moment: datetime, job: Job, variant: str = "video") -> str:
    """Return the same URL, made at a moment (aware)."""
    expires_at = moment + timedelta(seconds=LINK_SECONDS)
    token = sign_token(TokenPurpose.FILM, job.id, variant, *_generation(job), expires_at=expires_at)
    return f"{get_settings().base_url()}/files/{token}"


def film_link_at(moment: datetime, job: Job) -> str | None:
    """Return such a URL of a job's film, or None where it has no film, or none any more."""
    return make_link_at(moment, job) if job.film_key is not None and job.files_removed_at is None else None


def revoke_links(job: Job) -> None:
    """Void all links to a job's film that were made before; the caller holds the row's lock. New ones work.

    Downloads that have begun go on, and so do the storage's own URLs, for some minutes.
    """
    job.links_revoked += 1


class FilmLink(NamedTuple):
    """What a valid link leads to, and when it was made."""

    job: Job
    variant: str
    made_at: datetime


def open_link(session: Session, token: str) -> FilmLink:
    """Return what a token leads to.

    Raises AppError `not_found` for an invalid one, and `gone` for one that has expired or was revoked.
    """
    not_found = AppError("not_found", "There is no file at this URL.")
    try:
        link = read_token(TokenPurpose.FILM, token)
        job_id, variant, *generation = link.values
    except (InvalidToken, ValueError):
        raise not_found from None
    if variant not in VARIANTS:
        raise not_found
    if link.has_expired(now(session)):
        raise AppError("gone", "This link has expired; request a new one.")
    job = session.get(Job, job_id)
    if job is None or job.deleted_at is not None:
        raise not_found
    if generation != _generation(job):
        raise AppError("gone", "This link was revoked; request a new one.")
    return FilmLink(job, variant, datetime.fromtimestamp(link.expires - LINK_SECONDS, UTC))


def _generation(job: Job) -> list[str]:
    """Return what a token holds beside the job and the variant: nothing before the first revocation."""
    return [str(job.links_revoked)] if job.links_revoked else []
