"""Expiring links to a film, for clients that download without a key: `/files/{token}`."""

import base64
import hashlib
import hmac
from datetime import timedelta

from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.settings import get_settings

VARIANTS = ("video", "thumbnail", "spritesheet")
LINK_SECONDS = 86_400


def make_link(session: Session, job: Job, variant: str = "video") -> str:
    """Return an address that delivers a variant of a job's film for a day without a key."""
    expires = int((now(session) + timedelta(seconds=LINK_SECONDS)).timestamp())
    words = f"{job.id}.{variant}.{expires}"
    return f"{get_settings().base_url()}/files/{words}.{_signature(words)}"


def open_link(session: Session, token: str) -> tuple[Job, str]:
    """Return the job and variant of a token. Raises AppError `not_found` for one that is forged, and `gone`."""
    words, _, signature = token.rpartition(".")
    parts = words.split(".")
    genuine = hmac.compare_digest(signature.encode(), _signature(words).encode())
    if len(parts) != 3 or not genuine or parts[1] not in VARIANTS:
        raise AppError("not_found", "There is no file at this address.")
    if int(parts[2]) <= now(session).timestamp():
        raise AppError("gone", "This link has expired; ask for a new one.")
    job = session.get(Job, parts[0])
    if job is None or job.deleted_at is not None:
        raise AppError("not_found", "There is no file at this address.")
    return job, parts[1]


def _signature(words: str) -> str:
    digest = hmac.new(get_settings().secret_key(), b"cinemeter-file:" + words.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode().rstrip("=")
