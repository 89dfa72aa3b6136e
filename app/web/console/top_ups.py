"""Top-ups by operators: a review page before money moves, and the requests above the ceiling.

It is a page and not a dialog, because the review must not depend on scripts.
"""

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.accounts.tables import Account
from app.admin.money import top_up_ceiling
from app.admin.tables import TopUpRequest
from app.admin.top_ups import TopUp, add_funds, approve_top_up, needs_second_operator, withdraw_top_up
from app.audit_log.actor import Actor
from app.errors import AppError
from app.web.auth import FormDep, OperatorDep, SessionDep, Visitor, text_of
from app.web.console.accounts import account_page
from app.web.console.money import Confirmation, confirmation_page
from app.web.formats import minor, when, words
from app.web.forms import SubmittedForm, parse_form_amount, parse_optional_local_time
from app.web.language import gettext
from app.web.render import redirect

router = APIRouter(prefix="/admin/accounts", include_in_schema=False)

FIELDS = ("amount", "kind", "reference", "expires_at", "reason")


@router.post("/{account_id}/top-up")
def post_top_up(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Top an account up: the first form leads to the review page, its form does it. A reference is credited once."""
    account = get_account(session, account_id)
    try:
        order = _order(form, account, visitor.zone)
        if not text_of(form, "sure"):
            return confirmation_page(request, _confirmation(session, visitor, account, order, form))
        with session.begin_nested():
            added = add_funds(session, Actor.of(visitor.caller), account_id, order)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error, form=SubmittedForm(form, "top-up"))
    done = "top-up-request" if isinstance(added, TopUpRequest) else "top-up"
    return redirect(request, f"/admin/accounts/{account_id}?done={done}")


@router.post("/{account_id}/top-ups/{request_id}/approval")
def post_approval(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, request_id: str
) -> Response:
    """Approve a top-up that another operator requested."""
    try:
        with session.begin_nested():
            approve_top_up(session, Actor.of(visitor.caller), account_id, request_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error)
    return redirect(request, f"/admin/accounts/{account_id}?done=top-up")


@router.post("/{account_id}/top-ups/{request_id}/withdrawal")
def post_withdrawal(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, request_id: str
) -> Response:
    """Withdraw a top-up that waits for a second operator."""
    try:
        with session.begin_nested():
            withdraw_top_up(session, Actor.of(visitor.caller), account_id, request_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error)
    return redirect(request, f"/admin/accounts/{account_id}?done=top-up-withdrawal")


def _order(form: FormData, account: Account, zone: str) -> TopUp:
    reference = text_of(form, "reference")
    if not reference:
        raise AppError(
            "invalid_request",
            "Enter the payment or order number. It makes sure that the amount is added only once.",
            field="reference",
        )
    return TopUp(
        amount=parse_form_amount(text_of(form, "amount"), account.currency, "amount", minimum=1),
        kind=text_of(form, "kind", "granted"),
        reference=reference,
        expires_at=parse_optional_local_time(text_of(form, "expires_at"), zone, "expires_at"),
        reason=text_of(form, "reason"),
    )


def _confirmation(session: Session, visitor: Visitor, account: Account, order: TopUp, form: FormData) -> Confirmation:
    waits = needs_second_operator(session, Actor.of(visitor.caller), order.amount, account.currency)
    kind = words(order.kind)
    if waits:
        effect = gettext("of %(kind)s credit are requested; another operator approves it", kind=kind)
    else:
        effect = gettext("of %(kind)s credit are added", kind=kind)
    if not waits and order.amount > top_up_ceiling(account.currency):
        effect += gettext(", without a second operator: you are the only one, and the audit log says so")
    if order.expires_at is not None:
        effect += gettext("; what is left expires on %(at)s", at=when(order.expires_at, visitor.zone))
    back = f"/admin/accounts/{account.id}"
    return Confirmation(
        title=gettext("Request top-up") if waits else gettext("Top up"),
        account=account.name,
        amount=minor(order.amount, account.currency),
        effect=effect,
        reason=f"{order.reference}. {order.reason}".strip(),
        action=f"{back}/top-up",
        back=back,
        fields={**{name: text_of(form, name) for name in FIELDS}, "sure": "yes"},
    )
