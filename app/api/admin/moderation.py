"""Moderation routes: the reviews that wait, one with what it is about, decisions, and an account's history."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.admin import moderation
from app.admin.review_batches import BATCH_MAX, decide_batch, reviews_alike
from app.api.admin.access import AdminCaller, After, Limit, ModeratorCaller
from app.api.admin.schemas import StrictBody
from app.audit_log.actor import Actor
from app.file_delivery import deliver
from app.jobs.review import REASON_MAX
from app.jobs.tables import Job
from app.moderation.outcomes import CheckStage, Decision
from app.moderation.tables import ModerationOutcome
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/admin", tags=["admin: moderation"])


class DecisionIn(StrictBody):
    """A moderator's decision: the job of a review goes on, or ends without a charge."""

    decision: Literal["allow", "refuse"]
    reason: str = Field(
        min_length=1, max_length=REASON_MAX, description="Kept in the log; the customer does not see it."
    )


class DecisionsIn(DecisionIn):
    """One decision on several reviews, of orders of one account with the same words and files."""

    reviews: list[str] = Field(min_length=1, max_length=BATCH_MAX, description="Ids, as `alike` of a review has them.")


class OutcomeOut(BaseModel):
    """What moderation has found, and what was decided about it. The words that were matched are not kept."""

    id: str
    object: Literal["moderation_outcome"] = "moderation_outcome"
    account: str
    video: str | None = Field(description="None: refused before there was a job.")
    test: bool
    interface: str
    stage: str
    outcome: str
    category: str
    score: float
    checker: str
    rule: str
    version: str
    times: int = Field(description="Equal refusals of one day before an order are counted together.")
    first_at: datetime
    last_at: datetime
    due_at: datetime | None = Field(description="Of a review: by when it is decided.")
    at_deadline: str | None = Field(description="Of a review: what holds if nobody has decided by then.")
    decision: str | None
    decided_at: datetime | None
    decided_by: str | None = Field(description="A person, or `policy` at the deadline.")
    reason: str | None


class WordsOut(BaseModel):
    """The words of one shot."""

    prompt: str
    negative_prompt: str


class FileOut(BaseModel):
    """A picture or clip of the order."""

    index: int
    kind: str
    is_deleted: bool


class ReviewOut(OutcomeOut):
    """A review with what a moderator decides on."""

    status: str
    shots: list[WordsOut]
    files: list[FileOut]
    alike: list[str] = Field(
        description="Other reviews that wait at this stage about the same words and files of the account."
    )


class DecidedOut(OutcomeOut):
    """A review of one action."""

    is_new: bool = Field(description="False: it had ended before, as `decision` says, and was left as it was.")


class DecidedList(BaseModel):
    """The reviews of one action, in the order in which they were named."""

    object: Literal["list"] = "list"
    data: list[DecidedOut]


class OutcomePage(BaseModel):
    """A page of outcomes."""

    object: Literal["list"] = "list"
    data: list[OutcomeOut]
    last_id: str | None
    has_more: bool


@router.get("/moderation")
def list_reviews(
    session: SessionDep,
    caller: AdminCaller,
    account: Annotated[str | None, Query(max_length=64)] = None,
    stage: CheckStage | None = None,
    after: After = None,
    limit: Limit = 50,
) -> OutcomePage:
    """List the reviews that wait for a decision, oldest first."""
    rows = moderation.waiting_reviews(session, account_id=account, stage=stage, after=after, limit=limit + 1)
    return _page(rows, limit)


@router.get("/moderation/{review_id}")
def get_review(session: SessionDep, caller: ModeratorCaller, review_id: str) -> ReviewOut:
    """Return a review with the words of its order. The audit log records who has read them."""
    review, job = moderation.view_review(session, Actor.of(caller), review_id)
    return _review(session, review, job)


@router.post("/moderation/{review_id}/decision")
def decide_review(session: SessionDep, caller: ModeratorCaller, review_id: str, body: DecisionIn) -> OutcomeOut:
    """Allow or refuse the order of a review. A second decision is answered with `conflict`."""
    decision = Decision(body.decision)
    return _outcome(moderation.decide(session, Actor.of(caller), review_id, decision, reason=body.reason))


@router.post("/moderation/decisions")
def decide_reviews(session: SessionDep, caller: ModeratorCaller, body: DecisionsIn) -> DecidedList:
    """Allow or refuse the orders of several reviews that are alike: the films of one call, or a repeated order.

    Each is decided by itself and has its entry in the audit log. A review that somebody has decided meanwhile stays as
    it is, so a call that was interrupted can be repeated.
    """
    decision = Decision(body.decision)
    results = decide_batch(session, Actor.of(caller), body.reviews, decision, reason=body.reason)
    return DecidedList(data=[DecidedOut(**_facts(review), is_new=is_new) for review, is_new in results])


@router.post("/moderation/{review_id}/files/{index}", response_class=Response)
def view_review_file(
    request: Request, session: SessionDep, caller: ModeratorCaller, review_id: str, index: int
) -> Response:
    """Send a picture or clip of the order. The audit log records who has seen it."""
    file = moderation.view_file(session, Actor.of(caller), review_id, index)
    return deliver(
        session,
        request,
        file.key or "",
        account_id=caller.account_id,
        filename=f"{review_id}-{index}",
        content_type=file.content_type,
        redirects=False,
        cache_control="private, no-store",
    )


@router.get("/accounts/{account_id}/moderation")
def list_account_outcomes(session: SessionDep, caller: AdminCaller, account_id: str, limit: Limit = 50) -> OutcomePage:
    """List what moderation has found and decided about an account, newest first."""
    get_account(session, account_id)
    return _page(moderation.account_outcomes(session, account_id, limit=limit + 1), limit)


def _page(rows: list[ModerationOutcome], limit: int) -> OutcomePage:
    data = [_outcome(each) for each in rows[:limit]]
    return OutcomePage(data=data, last_id=data[-1].id if data else None, has_more=len(rows) > limit)


def _outcome(row: ModerationOutcome) -> OutcomeOut:
    return OutcomeOut(**_facts(row))


def _facts(row: ModerationOutcome) -> dict[str, Any]:
    names = [name for name in OutcomeOut.model_fields if name not in ("object", "account", "video")]
    return {name: getattr(row, name) for name in names} | {"account": row.account_id, "video": row.job_id}


def _review(session: Session, review: ModerationOutcome, job: Job) -> ReviewOut:
    return ReviewOut(
        **_facts(review),
        status=job.state,
        shots=[
            WordsOut(prompt=prompt, negative_prompt=negative_prompt)
            for prompt, negative_prompt in moderation.words_of(job)
        ],
        files=[
            FileOut(index=each.index, kind=each.kind, is_deleted=each.key is None)
            for each in moderation.review_files(session, job)
        ],
        alike=[each.id for each in reviews_alike(session, review, job)],
    )
