"""Refunds and balance corrections by operators. A review page shows the effect; its form carries it out.

It is a page and not a dialog, because the review must not depend on scripts.
"""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.admin import money
from app.audit_log.actor import Actor
from app.db import new_id
from app.errors import AppError
from app.reports.jobs import find_any_job, refundable_amount
from app.web.auth import FormDep, OperatorDep, SessionDep, text_of
from app.web.console.accounts import account_page
from app.web.console.jobs import film_page
from app.web.formats import minor
from app.web.forms import SubmittedForm, parse_form_amount
from app.web.language import gettext
from app.web.render import page, redirect

router = APIRouter(prefix="/admin", include_in_schema=False)

REASON_LENGTH_MAX = 300


@dataclass(frozen=True)
class Confirmation:
    """The content of a review page: the effect as text, and the form that carries it out."""

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
    """Refund part or all of a film's charge: the first form leads to the review page, its form does it."""
    job = find_any_job(session, job_id)
    back = f"/admin/films/{job_id}"
    try:
        amount, reason = parse_form_amount(text_of(form, "amount"), job.currency, "amount", minimum=1), _reason(form)
        refundable = refundable_amount(session, job_id)
        if not text_of(form, "sure"):
            if amount > refundable:
                message = f"At most {minor(refundable, job.currency)} of this film's charge can be refunded."
                raise AppError("conflict", message, field="amount")
            confirmation = Confirmation(
                title=gettext("Refund"),
                account=get_account(session, job.account_id).name,
                amount=minor(amount, job.currency),
                effect=gettext(
                    "is returned to the wallet, of %(refundable)s that can be refunded",
                    refundable=minor(refundable, job.currency),
                ),
                reason=reason,
                action=f"{back}/refund",
                back=back,
                fields=_confirmed_fields(form, "amount"),
            )
            return confirmation_page(request, confirmation)
        with session.begin_nested():
            actor, reference = Actor.of(visitor.caller), _reference(form)
            money.refund_job(session, actor, job.account_id, job_id, amount, reference=reference, reason=reason)
    except AppError as error:
        return film_page(request, session, visitor, job_id, error=error)
    return redirect(request, f"{back}?done=refund")


@router.post("/accounts/{account_id}/correction")
def post_correction(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Correct a wallet's balance: the first form leads to the review page, its form does it."""
    account = get_account(session, account_id)
    back = f"/admin/accounts/{account_id}"
    try:
        amount, reason = (
            parse_form_amount(text_of(form, "amount"), account.currency, "amount", minimum=1),
            _reason(form),
        )
        adds = text_of(form, "direction", "give") != "take"
        if not text_of(form, "sure"):
            confirmation = Confirmation(
                title=gettext("Adjust balance"),
                account=account.name,
                amount=minor(amount, account.currency),
                effect=gettext("is added to the wallet")
                if adds
                else gettext("is deducted from the wallet, even below its credit limit"),
                reason=reason,
                action=f"{back}/correction",
                back=back,
                fields=_confirmed_fields(form, "amount", "direction"),
            )
            return confirmation_page(request, confirmation)
        with session.begin_nested():
            actor, reference = Actor.of(visitor.caller), _reference(form)
            signed = amount if adds else -amount
            money.correct_balance(session, actor, account_id, signed, reference=reference, reason=reason)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error, form=SubmittedForm(form, "correction"))
    return redirect(request, f"{back}?done=correction")


def confirmation_page(request: Request, confirmation: Confirmation) -> Response:
    """Return the review page of a change of money."""
    return page(request, "console/money.html", title=confirmation.title, confirmation=confirmation)


def _confirmed_fields(form: FormData, *names: str) -> dict[str, str]:
    """Return the hidden fields of the review page's form, with a reference that makes it idempotent."""
    fields = {name: text_of(form, name) for name in (*names, "reason")}
    return {**fields, "reference": new_id("console"), "sure": "yes"}


def _reason(form: FormData) -> str:
    reason = text_of(form, "reason")
    if not 1 <= len(reason) <= REASON_LENGTH_MAX:
        raise AppError("invalid_request", "Give a reason in one sentence. The customer can read it.", field="reason")
    return reason


def _reference(form: FormData) -> str:
    reference = text_of(form, "reference")
    if not reference:
        raise AppError("invalid_request", "This form has no reference. Open the page again and start over.")
    return reference
