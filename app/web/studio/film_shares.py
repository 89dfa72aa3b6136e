"""Share links on a film's page: an owner makes and revokes them."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.audit_log.actor import Actor
from app.clock import now
from app.jobs.find import find_job
from app.jobs.share_links import revoke_share_link, share_film, share_links_of, share_url
from app.jobs.showcase import may_be_shown
from app.jobs.tables import Job
from app.moderation.policy import sharing_policy
from app.parsing import parse_integer
from app.roles import Role
from app.web.auth import FormDep, OwnerDep, SessionDep, text_of
from app.web.render import redirect

router = APIRouter(include_in_schema=False)


@router.post("/films/{video_id}/shares")
def post_share(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, video_id: str) -> Response:
    """Make a link to a public page of a film, for so many days, or revoke one: its page is gone at once."""
    job, actor = find_job(session, visitor.caller, video_id, lock=True), Actor.of(visitor.caller)
    if text_of(form, "revoke"):
        revoke_share_link(session, actor, job, text_of(form, "revoke"))
    else:
        days = parse_integer(text_of(form, "days"))
        share_film(session, actor, job, seconds=None if days is None else days * 86_400)
    return redirect(request, f"/films/{video_id}#share")


def share_context(session: Session, caller: Caller, job: Job) -> dict[str, Any] | None:
    """Return the share links of a film to an owner; None for others, and where the film cannot be shared."""
    policy = sharing_policy()
    if Role.OWNER not in caller.roles or not policy.allowed or not may_be_shown(job, now(session)):
        return None
    links = [
        {"id": each.id, "url": share_url(each), "expires_at": each.expires_at} for each in share_links_of(session, job)
    ]
    choices = sorted({days for days in (1, policy.days, 30, policy.days_max) if days <= policy.days_max})
    return {"links": links, "days": choices, "default": min(policy.days, policy.days_max)}
