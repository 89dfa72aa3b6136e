"""Share links: an owner lets everybody who has a link see one film, until the link expires or is revoked."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.jobs.share_tables import ShareLink
from app.jobs.showcase import may_be_shown
from app.jobs.tables import Job
from app.moderation.policy import sharing_policy
from app.provenance.blocked_tables import is_blocked
from app.settings import get_settings
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

PATH = "/shared/"
SECONDS_MIN = 300
# Links of one film that work at a time.
OPEN_MAX = 20


def share_film(session: Session, actor: Actor, job: Job, *, seconds: int | None = None) -> ShareLink:
    """Make a link to a public page of a film, for so many seconds; None is the policy's default.

    The caller holds the job's lock and checked that `actor` is an owner, or a key with the scope `videos`, which acts
    for its owner. Raises AppError `forbidden` where the policy allows no links, `conflict` for a film that cannot be
    shown and for one with OPEN_MAX links, `invalid_request` for a length out of bounds.
    """
    policy, moment = sharing_policy(), now(session)
    if not policy.allowed:
        raise AppError("forbidden", "This service makes no share links.")
    most = policy.days_max * 86_400
    wanted = min(policy.days * 86_400, most) if seconds is None else seconds
    if not SECONDS_MIN <= wanted <= most:
        message = f"A share link works for {SECONDS_MIN} to {most} seconds."
        raise AppError("invalid_request", message, field="expires_in", value=wanted)
    if not may_be_shown(job, moment) or _is_blocked(session, job):
        raise AppError("conflict", "Only a complete film whose files are kept can be shared.", state=job.state)
    working = (ShareLink.job_id == job.id, ShareLink.revoked_at.is_(None), ShareLink.expires_at > moment)
    if (session.scalar(select(func.count()).select_from(ShareLink).where(*working)) or 0) >= OPEN_MAX:
        raise AppError("conflict", f"This film has {OPEN_MAX} share links; revoke one first.", limit=OPEN_MAX)
    link = ShareLink(
        id=new_id("share"),
        job_id=job.id,
        account_id=job.account_id,
        created_by=actor.person,
        created_at=moment,
        expires_at=moment + timedelta(seconds=wanted),
    )
    session.add(link)
    session.flush()
    facts = {"account": job.account_id, "link": link.id, "ends_at": link.expires_at.isoformat()}
    record_action(session, actor, "film.shared", job.id, **facts)
    return link


def revoke_share_link(session: Session, actor: Actor, job: Job, link_id: str) -> ShareLink:
    """End a link at once; one that is revoked stays as it is. Raises AppError `not_found` for one of another film."""
    link = session.get(ShareLink, link_id, with_for_update=True, populate_existing=True)
    if link is None or link.job_id != job.id:
        raise not_found("share link", link_id)
    if link.revoked_at is None:
        link.revoked_at, link.revoked_by = now(session), actor.person
        session.flush()
        record_action(session, actor, "film.share_revoked", job.id, account=job.account_id, link=link.id)
    return link


def share_links_of(session: Session, job: Job) -> Sequence[ShareLink]:
    """Return the links of a film that work, the newest first."""
    working = (ShareLink.job_id == job.id, ShareLink.revoked_at.is_(None), ShareLink.expires_at > now(session))
    return session.scalars(select(ShareLink).where(*working).order_by(ShareLink.created_at.desc())).all()


def share_url(link: ShareLink) -> str:
    """Return the address of a link's page."""
    return f"{get_settings().base_url()}{PATH}{sign_token(TokenPurpose.SHARE, link.id, expires_at=link.expires_at)}"


def open_share_link(session: Session, token: str) -> Job:
    """Return the film of a link.

    Raises AppError `not_found`, the same for an unknown link, one that has expired or was revoked, and for a film that
    is deleted, removed, blocked or not kept any more, and while links are off or the account is suspended.
    """
    job = _linked_film(session, token)
    if job is None:
        raise AppError("not_found", "This link leads to no film.")
    return job


def shared_film(session: Session, token: str) -> str | None:
    """Return the id of the film that a link leads or has led to, for a report of it; None for no link of ours."""
    try:
        link_id = read_token(TokenPurpose.SHARE, token).values[0]
    except (InvalidToken, IndexError):
        return None
    return session.scalar(select(ShareLink.job_id).where(ShareLink.id == link_id))


def _linked_film(session: Session, token: str) -> Job | None:
    moment = now(session)
    try:
        signed = read_token(TokenPurpose.SHARE, token)
    except InvalidToken:
        return None
    if not sharing_policy().allowed or len(signed.values) != 1:
        return None
    query = select(Job).join(ShareLink, ShareLink.job_id == Job.id).join(Account, Account.id == Job.account_id)
    working = (ShareLink.revoked_at.is_(None), ShareLink.expires_at > moment, Account.suspended_at.is_(None))
    job = session.scalar(query.where(ShareLink.id == signed.values[0], *working))
    return job if job is not None and may_be_shown(job, moment) and not _is_blocked(session, job) else None


def _is_blocked(session: Session, job: Job) -> bool:
    return is_blocked(session, (job.film or {}).get("sha256"))
