"""Check the pictures of a finished film before anything of it is stored; a refused one goes into quarantine."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Account, ApiKey, ModerationLevel
from app.assets.ingest import file_sha256
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import fail_take, lock_take, release_take
from app.errors import AppError
from app.jobs.check_pictures import PictureFile, PicturesCheck, check_pictures
from app.jobs.fair_share import lock_shares
from app.jobs.plan import FINISH_POOL
from app.jobs.quarantine import quarantine_film, quarantine_key, release_film
from app.jobs.review import hold_for_review, refused_message
from app.jobs.tables import Job
from app.moderation.check import UNCHECKED, without_review
from app.moderation.outcomes import CheckStage, Finding, Outcome, graver
from app.moderation.picture_checkers import output_checkers, require_checkers
from app.moderation.policy import moderation_policy
from app.moderation.record import allowed_categories, record_about_job
from app.moderation.removed_looks import check_frame_hashes, removed_looks
from app.moderation.repeaters import count_refusal, scope_of
from app.storage import Stored, get_storage
from workers.film.encoding import FilmError


def require_policy(pools: Collection[str]) -> None:
    """Raise RuntimeError for a policy of moderation, or a classifier in it, that a worker of these pools cannot use."""
    moderation_policy()
    if FINISH_POOL in pools:
        require_checkers()


class StoppedFilm(FilmError):
    """A checker does not allow what the film shows: nobody gets anything of it, unless a moderator allows it."""

    def __init__(self, finding: Finding, stored: Stored | None) -> None:
        super().__init__(refused_message(CheckStage.OUTPUT, finding.category))
        self._finding = finding
        self._stored = stored

    @property
    def outcome(self) -> str:
        """What the checker decided, in one line for a log."""
        finding = self._finding
        return f"{finding.outcome} by {finding.checker} (category {finding.category}, score {finding.score:.2f})"

    def end(self, session: Session, claim: Claim, *, meter: dict[str, Any] | None) -> None:
        """End the take: the job fails, or waits for a moderator. Raises LeaseLost."""
        job, _, _ = lock_take(session, claim)
        if self._finding.outcome is Outcome.REVIEW:
            # Before the release changes one of them: shares are locked by the names of their pools.
            lock_shares(session, job.account_id, {job.pool, FINISH_POOL})
            release_take(session, claim, meter=meter)
            hold_for_review(session, job, self._finding, CheckStage.OUTPUT)
        else:
            fail_take(session, claim, code="content_refused", message=str(self), permanent=True, meter=meter)
            record_about_job(session, self._finding, CheckStage.OUTPUT, job_id=job.id, **_facts(job))
        if self._stored is not None:
            quarantine_film(session, job, self._finding, self._stored)
        if self._finding.outcome is Outcome.REFUSE:
            project_id = session.scalar(select(ApiKey.project_id).where(ApiKey.id == job.key_id))
            count_refusal(session, job.account_id, scope=scope_of(project_id), test=job.test)


class UncheckedFilm(FilmError):
    """The film could not be checked, and the policy is closed: the take is tried again later."""


def checks_films(session: Session) -> bool:
    """Return whether films are checked: the policy names checkers of them, or there are films that were removed."""
    return bool(output_checkers()) or removed_looks(session) is not None


def check_output(claim: Claim, film: Path, frame_hashes: Callable[[], bytes]) -> None:
    """Check a film that is about to be stored, by the checkers that the policy names; without one nothing is read.

    Its frames are compared with those of removed films too, where there are any: `frame_hashes` returns their PDQ
    hashes, and may wait for the film to be decoded. A film that was allowed for what it shows is not checked again;
    where it could not be checked and was allowed, only that passes.

    Raises StoppedFilm, with the film in quarantine, UncheckedFilm, and StorageError.
    """
    with transaction() as session:
        if not checks_films(session):
            return
        job = session.get_one(Job, claim.job_id)
        is_strict = session.get_one(Account, job.account_id).moderation_level == ModerationLevel.STRICT
        allowed, facts = allowed_categories(session, job.id, CheckStage.OUTPUT), _facts(job)
        if allowed - {UNCHECKED}:
            release_film(session, job.id)
            return
    check = _check(film, owner=facts["account_id"], strict=is_strict)
    against = None if check.against is None else check.against[1]
    if against is not None and against.outcome is Outcome.REFUSE and against.category == UNCHECKED:
        raise UncheckedFilm(f"The film could not be checked ({against.rule}).")
    if against is None or against.outcome is not Outcome.REFUSE:
        hashes = frame_hashes()
        with transaction() as session:
            look = check_frame_hashes(session, hashes)
        against = graver(against, without_review(look) if is_strict else look)
    if against is not None and against.category not in allowed:
        raise StoppedFilm(against, _quarantined(claim, film, against))
    if check.unchecked or allowed:
        with transaction() as session:
            for finding in check.unchecked:
                record_about_job(session, finding, CheckStage.OUTPUT, job_id=claim.job_id, **facts)
            if allowed:
                release_film(session, claim.job_id)


def _facts(job: Job) -> dict[str, Any]:
    return {"account_id": job.account_id, "test": job.test, "interface": job.door}


def _check(film: Path, *, owner: str, strict: bool) -> PicturesCheck:
    """Return what the checkers say of a film. Raises UncheckedFilm while too many are being checked."""
    file = PictureFile(file_sha256(film), partial(_link, film))
    try:
        return check_pictures([file], output_checkers(strict=strict), CheckStage.OUTPUT, owner=owner, strict=strict)
    except AppError as error:
        raise UncheckedFilm(error.message) from error


def _link(film: Path, path: Path) -> None:
    """Let `path` stand for a film, which is read and not copied."""
    path.symlink_to(film.absolute())


def _quarantined(claim: Claim, film: Path, finding: Finding) -> Stored | None:
    """Store a film for a decision, or where the policy keeps any for moderators. Raises StorageError."""
    if finding.outcome is not Outcome.REVIEW and not moderation_policy().pictures.quarantine_days:
        return None
    return get_storage().put_file(quarantine_key(claim.job_id, claim.take_id), film, "video/mp4")
