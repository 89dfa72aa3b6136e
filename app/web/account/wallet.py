"""The wallet page: available balance, credit lots, transfers, membership, low-balance alert."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.memberships import list_periods, membership_at
from app.accounts.tables import MembershipPeriod
from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.prices.find import book_at
from app.wallet.balance import balance, set_low_balance
from app.wallet.funds import list_transfers, signed_text
from app.wallet.tables import CreditLot, Transfer
from app.web.auth import FormDep, OwnerDep, SessionDep, Visitor, text_of
from app.web.forms import NO_FORM, SubmittedForm, parse_form_amount
from app.web.language import gettext, title_text
from app.web.render import page, redirect
from pricing.book import PriceBook

router = APIRouter(include_in_schema=False)

PAGE = 30


@router.get("/account")
def show_wallet(
    request: Request,
    session: SessionDep,
    visitor: OwnerDep,
    before: Annotated[datetime | None, Query()] = None,
    last: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the wallet."""
    return _wallet(request, session, visitor, before=(before, last) if before else None)


def _wallet(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    before: tuple[datetime, str] | None = None,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    account_id = visitor.caller.account_id
    transfers = list_transfers(session, account_id, before=before, limit=PAGE + 1)
    return page(
        request,
        "account/wallet.html",
        status=error.status if error else 200,
        title=gettext("Wallet"),
        wallet=balance(session, account_id),
        lots=_lots(session, account_id),
        transfers=_transfers(session, transfers[:PAGE]),
        more=transfers[PAGE - 1] if len(transfers) > PAGE else None,
        membership=membership_of(session, visitor),
        error=error,
        form=form,
    )


@router.post("/account/low-balance")
def post_low_balance(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Set or remove the limit of the low-balance alert."""
    amount = text_of(form, "amount")
    currency = visitor.currency
    try:
        limit = parse_form_amount(amount, currency, "amount") if amount else None
    except AppError as error:
        return _wallet(request, session, visitor, error=error, form=SubmittedForm(form))
    set_low_balance(session, visitor.caller.account_id, limit)
    return redirect(request, "/account")


def membership_of(session: Session, visitor: Visitor) -> dict[str, object]:
    """Return the account's current membership with its terms in the price book in force."""
    moment = now(session)
    book = book_at(session, moment).book
    name = membership_at(session, visitor.caller.account_id, moment)
    membership = book.memberships.get(name) or book.membership("free")
    periods = list_periods(session, visitor.caller.account_id)
    current = next(
        (each for each in periods if each.starts_at <= moment and (not each.ends_at or each.ends_at > moment)), None
    )
    return {
        "title": title_text(membership.title),
        "factor": f"{membership.factor.normalize():f}",
        "concurrency": visitor.caller.account.concurrency or membership.concurrency,
        "queue_limit": membership.queue_limit
        if visitor.caller.account.queue_limit is None
        else visitor.caller.account.queue_limit,
        "retention_days": membership.retention_days,
        "free_seconds": str(membership.free_seconds_per_month),
        "ends_at": current.ends_at if current else None,
        "ended": None if current else _ended(book, periods, moment),
    }


def _ended(book: PriceBook, periods: list[MembershipPeriod], moment: datetime) -> dict[str, object] | None:
    """Return the title and end of the membership that ended last, or None where there was none."""
    ended_periods = [each for each in periods if each.ends_at is not None and each.ends_at <= moment]
    if not ended_periods:
        return None
    last, known = ended_periods[-1], book.memberships
    return {"title": title_text(known[last.name].title) if last.name in known else last.name, "at": last.ends_at}


def _lots(session: Session, account_id: str) -> list[dict[str, object]]:
    """Return the unexpired credit lots with a remainder, in spending order."""
    rows = session.scalars(
        select(CreditLot)
        .where(CreditLot.account_id == account_id, CreditLot.remaining > 0)
        .order_by(CreditLot.expires_at.asc().nulls_last(), CreditLot.kind, CreditLot.created_at)
    )
    moment = now(session)
    return [
        {
            "kind": lot.kind,
            "amount": lot.amount,
            "remaining": lot.remaining,
            "expires_at": lot.expires_at,
            "created_at": lot.created_at,
        }
        for lot in rows
        if lot.expires_at is None or lot.expires_at > moment
    ]


def _transfers(session: Session, transfers: list[Transfer]) -> list[dict[str, object]]:
    jobs = {each.job_id for each in transfers if each.job_id}
    prompts = dict(session.execute(select(Job.id, Job.prompt).where(Job.id.in_(jobs))).all())
    return [
        {
            "at": each.at,
            "id": each.id,
            "kind": each.kind,
            "job_id": each.job_id,
            "prompt": prompts.get(each.job_id or "", "").partition("\n")[0],
            "reason": each.reason,
            "amount": signed_text(each),
        }
        for each in transfers
    ]
