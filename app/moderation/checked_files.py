"""Remember what checkers said of a file, so that a second order with it costs nothing."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import now
from app.moderation.checked_tables import CheckedFile
from app.moderation.checker_interface import PictureAnswer, PictureChecker
from app.moderation.outcomes import Finding, Outcome
from app.moderation.policy import moderation_policy


def remembered_answers(
    session: Session, sha256s: Collection[str], fingerprints: Collection[str]
) -> dict[tuple[str, str], PictureAnswer]:
    """Return what is known of files, by the file's hash and the checker's fingerprint."""
    since = now(session) - timedelta(days=moderation_policy().pictures.remember_days)
    known = select(CheckedFile).where(
        CheckedFile.sha256.in_(sha256s), CheckedFile.checked_by.in_(fingerprints), CheckedFile.checked_at > since
    )
    return {(row.sha256, row.checked_by): PictureAnswer(_finding(row), row.version) for row in session.scalars(known)}


def remember_answer(session: Session, sha256: str, checker: PictureChecker, answer: PictureAnswer) -> None:
    """Write what a checker said of a file, over what it said before."""
    finding = answer.finding or Finding(Outcome.ALLOW, "", 0.0, "", answer.version, checker.name)
    values = {
        "outcome": str(finding.outcome),
        "category": finding.category,
        "score": finding.score,
        "rule": finding.rule,
        "version": finding.version,
        "checker": finding.checker,
        "checked_at": now(session),
    }
    row = insert(CheckedFile).values(sha256=sha256, checked_by=checker.fingerprint, **values)
    session.execute(row.on_conflict_do_update(index_elements=["sha256", "checked_by"], set_=values))


def forget_answers(session: Session, *, limit: int) -> int:
    """Delete some answers that are too old to count. Returns how many."""
    before = now(session) - timedelta(days=moderation_policy().pictures.remember_days)
    old = select(CheckedFile.sha256, CheckedFile.checked_by).where(CheckedFile.checked_at <= before).limit(limit)
    rows = session.execute(old).all()
    for sha256, checked_by in rows:
        session.execute(delete(CheckedFile).where(CheckedFile.sha256 == sha256, CheckedFile.checked_by == checked_by))
    return len(rows)


def _finding(row: CheckedFile) -> Finding | None:
    outcome = Outcome(row.outcome)
    if outcome is Outcome.ALLOW:
        return None
    return Finding(outcome, row.category, row.score, row.rule, row.version, row.checker)
