"""What moderators do: see what waits for them, look at an order, decide, and set how an account is moderated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.tables import Account, ModerationLevel
from app.assets.tables import Asset, AssetState
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError, not_found
from app.jobs.review import decide_review, find_review
from app.jobs.spec import Spec, styled
from app.jobs.tables import Job
from app.moderation.outcomes import CheckStage, Decision
from app.moderation.tables import IS_OPEN, ModerationOutcome
from app.roles import Role, require_role
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

# Who may see what waits, and decide.
MODERATORS = (Role.MODERATOR, Role.OPERATOR)
# For so long a moderator sees a picture that was shown to them.
SHOWN_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class ReviewFile:
    """A picture or clip of an order in review. `index` counts from 0; `key` is None for a file that was deleted."""

    index: int
    kind: str
    key: str | None
    content_type: str
    bytes: int


def waiting_reviews(
    session: Session,
    *,
    account_id: str | None = None,
    stage: CheckStage | None = None,
    after: str | None = None,
    limit: int,
) -> list[ModerationOutcome]:
    """Return the reviews that wait, the oldest first; `after` is the id of the last one of the page before."""
    query = select(ModerationOutcome).where(text(IS_OPEN))
    if account_id is not None:
        query = query.where(ModerationOutcome.account_id == account_id)
    if stage is not None:
        query = query.where(ModerationOutcome.stage == stage)
    if after is not None:
        last = find_review(session, after)
        query = query.where(tuple_(ModerationOutcome.first_at, ModerationOutcome.id) > (last.first_at, last.id))
    return list(session.scalars(query.order_by(ModerationOutcome.first_at, ModerationOutcome.id).limit(limit)))


def count_waiting(session: Session, *, up_to: int) -> int:
    """Return how many reviews wait, counted up to a number."""
    waiting = select(ModerationOutcome.id).where(text(IS_OPEN)).limit(up_to).subquery()
    return session.scalar(select(func.count()).select_from(waiting)) or 0


def decided_reviews(
    session: Session, *, limit: int, before: tuple[datetime, str] | None = None
) -> list[ModerationOutcome]:
    """Return reviews that have ended, the newest first; `before` is (decided_at, id) of the last one shown."""
    query = select(ModerationOutcome).where(text("decision IS NOT NULL"))
    if before is not None:
        query = query.where(tuple_(ModerationOutcome.decided_at, ModerationOutcome.id) < before)
    order = (ModerationOutcome.decided_at.desc(), ModerationOutcome.id.desc())
    return list(session.scalars(query.order_by(*order).limit(limit)))


def account_outcomes(session: Session, account_id: str, *, limit: int) -> list[ModerationOutcome]:
    """Return what moderation has found and decided about an account, the newest first."""
    query = select(ModerationOutcome).where(ModerationOutcome.account_id == account_id)
    return list(session.scalars(query.order_by(ModerationOutcome.last_at.desc()).limit(limit)))


def view_review(session: Session, actor: Actor, review_id: str) -> tuple[ModerationOutcome, Job]:
    """Return a review with its job, whose words somebody is going to read; the audit log says who.

    Raises AppError `forbidden` without the role moderator or operator, `not_found`.
    """
    require_role(actor, *MODERATORS)
    review, job = find_with_job(session, review_id)
    record_action(session, actor, "review.viewed", review_id, job=job.id, account=job.account_id)
    return review, job


def find_with_job(session: Session, review_id: str) -> tuple[ModerationOutcome, Job]:
    """Return a review with its job, for what does not show its words anew. Raises AppError `not_found`."""
    review = find_review(session, review_id)
    job = session.get(Job, review.job_id)
    if job is None:
        raise not_found("review", review_id)
    return review, job


def decide(session: Session, actor: Actor, review_id: str, decision: Decision, *, reason: str) -> ModerationOutcome:
    """Allow or refuse the job of a review. Raises AppError `forbidden`, and as `decide_review` does."""
    require_role(actor, *MODERATORS)
    return decide_review(session, actor, review_id, decision, reason=reason)


def review_files(session: Session, job: Job) -> list[ReviewFile]:
    """Return the pictures and clips that an order names, each once and in the order of the film."""
    spec = Spec.model_validate(job.spec)
    frames = (each for shot in spec.shots for each in (shot.first_frame, shot.last_frame))
    asset_ids = list(dict.fromkeys(each for each in (spec.video, *frames) if each is not None))
    rows = session.scalars(select(Asset).where(Asset.id.in_(asset_ids), Asset.account_id == job.account_id))
    assets = {asset.id: asset for asset in rows}
    return [_file(index, assets.get(asset_id)) for index, asset_id in enumerate(asset_ids)]


def _file(index: int, asset: Asset | None) -> ReviewFile:
    if asset is None or asset.state != AssetState.READY:
        return ReviewFile(index, "picture", None, "", 0)
    return ReviewFile(index, str(asset.kind), asset.key, asset.content_type or "", asset.bytes or 0)


def find_file(session: Session, review_id: str, index: int) -> ReviewFile:
    """Return a file of the order in review. Raises AppError `not_found`, and `gone` for one that was deleted."""
    job = session.get(Job, find_review(session, review_id).job_id)
    files = [] if job is None else review_files(session, job)
    if not 0 <= index < len(files):
        raise not_found("picture", str(index))
    if files[index].key is None:
        raise AppError("gone", "This file was deleted.")
    return files[index]


def view_file(session: Session, actor: Actor, review_id: str, index: int) -> ReviewFile:
    """Return a file of the order in review that somebody is going to see unblurred; the audit log says who.

    Raises AppError `forbidden` without the role moderator or operator, `not_found`, `gone`.
    """
    require_role(actor, *MODERATORS)
    file = find_file(session, review_id, index)
    record_action(session, actor, "review.picture_viewed", review_id, index=index, kind=file.kind)
    return file


def make_view_token(session: Session, actor: Actor, review_id: str, index: int) -> str:
    """Return what shows a file unblurred to one person for SHOWN_FOR, once `view_file` has recorded it."""
    expires_at = now(session) + SHOWN_FOR
    return sign_token(TokenPurpose.REVIEW_FILE, review_id, str(index), actor.person, expires_at=expires_at)


def is_shown(session: Session, actor: Actor, review_id: str, index: int, token: str) -> bool:
    """Return whether a token of `make_view_token` shows this file to this person now."""
    try:
        link = read_token(TokenPurpose.REVIEW_FILE, token)
    except InvalidToken:
        return False
    return link.values == (review_id, str(index), actor.person) and not link.has_expired(now(session))


def set_moderation_level(session: Session, actor: Actor, account_id: str, level: ModerationLevel) -> Account:
    """Set how the orders of an account are moderated from now on. Raises AppError `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    account = get_account(session, account_id)
    before, account.moderation_level = account.moderation_level, str(level)
    session.flush()
    record_action(session, actor, "account.moderation_changed", account_id, before=before, after=str(level))
    return account


def words_of(job: Job) -> Sequence[tuple[str, str]]:
    """Return the words of an order, shot by shot: its prompt with the style line, and its negative prompt."""
    spec = Spec.model_validate(job.spec)
    return [(styled(spec.style, shot.prompt), shot.negative_prompt) for shot in spec.shots]
