"""Reuse a finished film as an input: the same bytes, stored as a clip of the account."""

import hashlib
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.assets.ingest import make_ready, new_asset, store_file
from app.assets.limits import ingest_slot
from app.assets.owner import OwnerIds
from app.assets.sandbox_probe import ProbeResult
from app.assets.tables import Asset
from app.db import commit_early
from app.errors import AppError
from app.jobs.derive import finished_spec
from app.jobs.tables import Job, ReceiptRow
from app.storage import get_storage

_CHUNK_BYTES = 2**20


def copy_film(session: Session, job: Job) -> Asset:
    """Store a finished job's film once more, as a clip of its account, and return the asset, which has no row yet.

    We wrote and measured it ourselves, so it is neither probed nor transcoded, nor limited as an untrusted clip is.
    What the session has done before is committed first. Raises AppError `conflict`, `gone`, and `rate_limited` or
    `unavailable` while too many files are being read.
    """
    spec, film = finished_spec(job), job.film or {}
    frames, fps = int(film.get("frames", spec.frames)), Fraction(film.get("fps", spec.fps))
    owner = OwnerIds(job.account_id, job.project_id, job.test)
    asset = new_asset(owner, filename=f"{job.id}.mp4")
    commit_early(session)
    with ingest_slot(job.account_id), tempfile.TemporaryDirectory(prefix="cinemeter-again-") as folder:
        path = Path(folder) / "film.mp4"
        try:
            get_storage().get_file(str(job.film_key), path)
        except FileNotFoundError:
            raise AppError("gone", "The film is no longer in storage.", id=job.id) from None
        facts = ProbeResult(
            path=path,
            kind="clip",
            content_type="video/mp4",
            width=spec.width,
            height=spec.height,
            frames=frames,
            fps=str(fps),
            seconds=str(frames / fps),
            has_audio=bool(film.get("has_audio")),
            # Our own marks, which name the film.
            marks={"film": job.id},
        )
        make_ready(asset, facts, *store_file(asset, facts))
    return asset


def job_of_film(session: Session, caller: Caller, file: BinaryIO) -> Job | None:
    """Return the caller's job whose film has these bytes, or None; the file is rewound to its start.

    A client that can only upload files (OpenAI's cannot name a video) can thereby extend and edit its own films.
    """
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    query = (
        select(Job)
        .join(ReceiptRow, ReceiptRow.job_id == Job.id)
        .where(ReceiptRow.film_sha256 == digest.hexdigest(), Job.account_id == caller.account_id)
        .where(Job.test == caller.test, Job.deleted_at.is_(None))
    )
    if caller.project_id is not None:
        query = query.where(Job.project_id == caller.project_id)
    return session.scalar(query.order_by(Job.created_at.desc()).limit(1))
