"""Money that operators give back or put right. What it will do is shown first, and a second form does it.

A dialog would be a script's; who moves a customer's money has to be asked without scripts too.
"""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.admin import money
from app.audit_log.actor import Actor
from app.db import new_id
from app.errors import AppError
from app.web.auth import FormDep, OperatorDep, SessionDep, text_of
from app.web.console.accounts import account_page
from app.web.console.jobs import film_page, find_film, left_to_refund
from app.web.formats import minor
from app.web.forms import SubmittedForm, parse_form_amount
from app.web.render import go, page

router = APIRouter(prefix="/admin", include_in_schema=False)

REASON_LENGTH_MAX = 300


@dataclass(frozen=True)
class Confirmation:
    """What is about to be done, for the page that asks: in words, and as the form that does it."""

    title: str
    account: str
    amount: str
    effect: str
    reason: str
    action: str
    back: str
    fields: dict[str, str]


@router.post("/films/{job_id}/refund")
def post_refund(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str) -> Response:
    """Give back part or all of what a film was charged: first asks, then does it."""
    job = find_film(session, job_id)
    back = f"/admin/films/{job_id}"
    try:
        amount, reason = parse_form_amount(text_of(form, "amount"), job.currency, "amount", least=1), _reason(form)
        left = left_to_refund(session, job)
        if not text_of(form, "sure"):
            if amount > left:
                message = f"{minor(left, job.currency)} of what this film was charged is left to give back."
                raise AppError("conflict", message, field="amount")
            question = Confirmation(
                title="Give money back",
                account=get_account(session, job.account_id).name,
                amount=minor(amount, job.currency),
                effect=f"goes back into the wallet, of {minor(left, job.currency)} that is left of this film’s charge",
                reason=reason,
                action=f"{back}/refund",
                back=back,
                fields=_again(form, "amount"),
            )
            return _ask(request, question)
        with session.begin_nested():
            actor, reference = Actor.of(visitor.caller), _reference(form)
            money.refund_job(session, actor, job.account_id, job_id, amount, reference=reference, reason=reason)
    except AppError as error:
        return film_page(request, session, visitor, job_id, error=error)
    return go(request, f"{back}?done=refund")


@router.post("/accounts/{account_id}/correction")
def post_correction(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Put a wallet right: first asks, then does it."""
    account = get_account(session, account_id)
    back = f"/admin/accounts/{account_id}"
    try:
        amount, reason = parse_form_amount(text_of(form, "amount"), account.currency, "amount", least=1), _reason(form)
        gives = text_of(form, "direction", "give") != "take"
        if not text_of(form, "sure"):
            question = Confirmation(
                title="Correct the wallet",
                account=account.name,
                amount=minor(amount, account.currency),
                effect="is put into the wallet" if gives else "is taken from the wallet, below its credit limit too",
                reason=reason,
                action=f"{back}/correction",
                back=back,
                fields=_again(form, "amount", "direction"),
            )
            return _ask(request, question)
        with session.begin_nested():
            actor, reference = Actor.of(visitor.caller), _reference(form)
            signed = amount if gives else -amount
            money.correct_balance(session, actor, account_id, signed, reference=reference, reason=reason)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error, sent=SubmittedForm(form, "correction"))
    return go(request, f"{back}?done=correction")


def _ask(request: Request, question: Confirmation) -> Response:
    return page(request, "console/money.html", title=question.title, question=question)


def _again(form: FormData, *names: str) -> dict[str, str]:
    """Return the fields that the second form sends again, with a reference by which it counts once."""
    kept = {name: text_of(form, name) for name in (*names, "reason")}
    return {**kept, "reference": new_id("console"), "sure": "yes"}


def _reason(form: FormData) -> str:
    reason = text_of(form, "reason")
    if not 1 <= len(reason) <= REASON_LENGTH_MAX:
        raise AppError("invalid_request", "Say why, in a sentence that the customer may read.", field="reason")
    return reason


def _reference(form: FormData) -> str:
    reference = text_of(form, "reference")
    if not reference:
        raise AppError("invalid_request", "Begin again: this form has no reference by which it counts once.")
    return reference
