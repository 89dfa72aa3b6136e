"""Moderation: orders that wait for a moderator, one with its words and blurred pictures, and the decision."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.admin import moderation
from app.admin.accounts import suspend_account
from app.admin.review_batches import BATCH_MAX, decide_batch, reviews_alike
from app.assets.blur import PICTURE_BYTES_MAX, blur_picture
from app.audit_log.actor import Actor
from app.clock import now
from app.db import commit_early
from app.errors import AppError, not_found
from app.file_delivery import deliver
from app.jobs.quarantine import is_kept
from app.jobs.review import REASON_MAX, find_review
from app.moderation.outcomes import CheckStage, Decision
from app.moderation.tables import ModerationOutcome
from app.parsing import parse_integer
from app.reports.display_names import display_names
from app.roles import Role
from app.storage import get_storage
from app.web.auth import AdminDep, FormDep, ModeratorDep, SessionDep, Visitor, text_of, texts_of
from app.web.forms import NO_FORM, SubmittedForm
from app.web.language import gettext, ngettext
from app.web.render import page, redirect

router = APIRouter(prefix="/admin/moderation", include_in_schema=False)

PAGE = 50
HISTORY = 20


@router.get("")
def show_reviews(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    stage: Annotated[str, Query(max_length=16)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[datetime | None, Query()] = None,
    last: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the orders that wait for a decision, the oldest first, and those that were decided."""
    wanted = CheckStage(stage) if stage in set(CheckStage) else None
    waiting = [] if before else moderation.waiting_reviews(session, stage=wanted, after=after, limit=PAGE + 1)
    decided = (
        [] if after else moderation.decided_reviews(session, limit=PAGE + 1, before=(before, last) if before else None)
    )
    rows = [*waiting[:PAGE], *decided[:PAGE]]
    return page(
        request,
        "console/moderation.html",
        title=gettext("Moderation"),
        waiting=waiting[:PAGE],
        more_wait=waiting[PAGE - 1].id if len(waiting) > PAGE else None,
        decided=decided[:PAGE],
        more=decided[PAGE - 1] if len(decided) > PAGE else None,
        names=display_names(session, [each for row in rows for each in (row.account_id, row.decided_by)]),
        stages=[str(each) for each in CheckStage],
        stage=stage,
        may_act=bool(visitor.roles & set(moderation.MODERATORS)),
        now=now(session),
    )


@router.get("/{review_id}")
def show_review(
    request: Request,
    session: SessionDep,
    visitor: ModeratorDep,
    review_id: str,
    decided: Annotated[int | None, Query(ge=0, le=BATCH_MAX)] = None,
    earlier: Annotated[int, Query(ge=0, le=BATCH_MAX)] = 0,
) -> Response:
    """Show an order in review with its words. The audit log records who has read them.

    `decided` and `earlier` are how many reviews the action before has decided, and how many had been decided by then.
    """
    return _review(request, session, visitor, review_id, batch=None if decided is None else (decided, earlier))


@router.post("/{review_id}/decision")
def post_decision(
    request: Request, session: SessionDep, visitor: ModeratorDep, form: FormDep, review_id: str
) -> Response:
    """Allow or refuse the order, and those that are alike and were chosen with it (`also`)."""
    also, query = texts_of(form, "also"), ""
    try:
        text = text_of(form, "decision")
        if text not in (Decision.ALLOW, Decision.REFUSE):
            message = "Choose whether the order is allowed or refused."
            raise AppError("invalid_request", message, field="decision", allowed=["allow", "refuse"])
        actor, decision, reason = Actor.of(visitor.caller), Decision(text), text_of(form, "reason")
        if also:
            results = decide_batch(session, actor, [review_id, *also], decision, reason=reason)
            decided = sum(each.is_new for each in results)
            query = f"?decided={decided}&earlier={len(results) - decided}"
        else:
            with session.begin_nested():
                moderation.decide(session, actor, review_id, decision, reason=reason)
    except AppError as error:
        return _review(request, session, visitor, review_id, error=error, form=SubmittedForm(form, "decision"))
    return redirect(request, f"/admin/moderation/{review_id}{query}")


@router.post("/{review_id}/suspension")
def post_suspension(
    request: Request, session: SessionDep, visitor: ModeratorDep, form: FormDep, review_id: str
) -> Response:
    """Suspend the account of the order: it orders nothing more. An operator ends this on the account's page."""
    account_id = find_review(session, review_id).account_id
    try:
        with session.begin_nested():
            reason = text_of(form, "reason")
            if not reason:
                raise AppError("invalid_request", "Say why the account is suspended.", field="reason")
            suspend_account(session, Actor.of(visitor.caller), account_id, reason)
    except AppError as error:
        return _review(request, session, visitor, review_id, error=error, form=SubmittedForm(form, "suspension"))
    return redirect(request, f"/admin/moderation/{review_id}")


@router.post("/{review_id}/files/{index}")
def post_view(
    request: Request, session: SessionDep, visitor: ModeratorDep, form: FormDep, review_id: str, index: str
) -> Response:
    """Show one picture or clip of the order unblurred, for some minutes. The audit log records who has seen it."""
    actor, at = Actor.of(visitor.caller), _index(index)
    moderation.view_file(session, actor, review_id, at)
    token = moderation.make_view_token(session, actor, review_id, at)
    return _review(request, session, visitor, review_id, tokens={at: token}, is_new=False)


@router.get("/{review_id}/files/{index}")
def send_file(
    request: Request,
    session: SessionDep,
    visitor: ModeratorDep,
    review_id: str,
    index: str,
    token: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Send a picture of the order: blurred beyond recognition, or itself to who has asked to see it."""
    at = _index(index)
    file = moderation.find_file(session, review_id, at)
    key = file.key or ""
    if moderation.is_shown(session, Actor.of(visitor.caller), review_id, at, token):
        return deliver(
            session,
            request,
            key,
            account_id=visitor.caller.account_id,
            filename=f"{review_id}-{at}",
            content_type=file.content_type,
            redirects=False,
            cache_control="private, no-store",
        )
    if file.kind != "picture" or file.bytes > PICTURE_BYTES_MAX:
        raise AppError("not_found", "There is no blurred picture of this file.")
    # The store is not waited for with a transaction open.
    commit_early(session)
    blurred = blur_picture(b"".join(get_storage().read_range(key, 0, file.bytes)))
    return Response(blurred, media_type="image/png", headers={"cache-control": "private, no-store"})


def _index(text: str) -> int:
    """Return the place of a file in its order. Raises AppError `not_found` for what is no number."""
    index = parse_integer(text)
    if index is None:
        raise not_found("picture", text)
    return index


def _review(
    request: Request,
    session: Session,
    visitor: Visitor,
    review_id: str,
    *,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
    tokens: dict[int, str] | None = None,
    is_new: bool = True,
    batch: tuple[int, int] | None = None,
) -> Response:
    if is_new:
        review, job = moderation.view_review(session, Actor.of(visitor.caller), review_id)
    else:
        review, job = moderation.find_with_job(session, review_id)
    account = get_account(session, review.account_id)
    history = [row for row in moderation.account_outcomes(session, account.id, limit=HISTORY) if row.id != review.id]
    people = [row.decided_by for row in (review, *history)]
    context: dict[str, Any] = {
        "review": review,
        "job": {name: getattr(job, name) for name in ("id", "state", "model", "door", "test", "created_at")},
        "shots": moderation.words_of(job),
        "files": moderation.review_files(session, job),
        "alike": [] if review.decision else reviews_alike(session, review, job),
        "batch": [] if batch is None else _batch_sentences(*batch),
        "has_film": review.stage == CheckStage.OUTPUT and is_kept(session, job.id),
        "may_see_film": review.decision is None or Role.MODERATOR in visitor.roles,
        "tokens": tokens or {},
        "account": account,
        "history": history,
        "counts": _counts(history),
        "names": display_names(session, people),
        "reason_max": REASON_MAX,
        "may_reinstate": Role.OPERATOR in visitor.roles,
        "error": error,
        "form": form,
        "now": now(session),
    }
    status = error.status if error else 200
    return page(request, "console/review.html", status=status, title=gettext("Review"), **context)


def _batch_sentences(decided: int, earlier: int) -> list[str]:
    """Return what became of the orders of one action."""
    sentences = [ngettext("%(number)s order was decided.", "%(number)s orders were decided.", decided)]
    if earlier:
        sentences.append(ngettext("%(number)s was decided before.", "%(number)s were decided before.", earlier))
    return sentences


def _counts(history: list[ModerationOutcome]) -> dict[str, int]:
    """Return how many of an account's newest outcomes were refusals, by checkers and by decisions."""
    return {
        "refused": sum(row.times for row in history if row.outcome == "refuse"),
        "decided_against": sum(row.decision == Decision.REFUSE for row in history),
        "allowed": sum(row.decision == Decision.ALLOW for row in history),
    }
