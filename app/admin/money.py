"""Operators' actions on money: credit, corrections and refunds, each in the audit log; top_ups.py adds money."""

from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries, record_action
from app.errors import AppError, not_found
from app.jobs.low_balance import publish_low_balance
from app.jobs.tables import Job
from app.roles import Role, require_role
from app.settings import get_settings
from app.wallet.balance import balance, set_credit_limit, set_low_balance
from app.wallet.funds import correct, refund, signed_text
from app.wallet.tables import Transfer
from pricing.money import Money, require_integer


def parse_amount(session: Session, account_id: str, text: str, *, field: str = "amount") -> int:
    """Return a decimal string such as `12.50` as minor units of the account's currency.

    Raises AppError `not_found`; `invalid_request` for a text that is not an amount of this currency.
    """
    currency = get_account(session, account_id).currency
    try:
        return Money.parse(text, currency).minor
    except ValueError:
        message = f"{text!r} is not an amount of {currency} such as 12.50."
        raise AppError("invalid_request", message, field=field, value=text, currency=currency) from None


def correct_balance(
    session: Session,
    actor: Actor,
    account_id: str,
    amount: int,
    *,
    reference: str,
    reason: str,
    job_id: str | None = None,
) -> Transfer:
    """Correct a wallet's balance: a positive amount gives, a negative one takes, even below the credit limit.

    Raises AppError `forbidden`, `not_found`, `invalid_request`, also for a correction that adds more than the ceiling
    of a top-up, `conflict`.
    """
    require_role(actor, Role.OPERATOR)
    if not amount:
        raise AppError("invalid_request", "A correction is not 0.", field="amount")
    currency = get_account(session, account_id).currency
    ceiling = Money(top_up_ceiling(currency), currency)
    if amount > ceiling.minor:
        message = f"A correction adds at most {ceiling.text}. Add more as a top-up, which a second operator approves."
        raise AppError("invalid_request", message, field="amount", allowed=f"up to {ceiling.text}")
    if job_id is not None:
        _job_of(session, account_id, job_id)
    transfer = correct(session, account_id, amount, reference=reference, reason=reason, job_id=job_id)
    publish_low_balance(session, account_id)
    record_transfer(session, actor, "wallet.corrected", transfer, reason=reason)
    return transfer


def refund_job(
    session: Session, actor: Actor, account_id: str, job_id: str, amount: int, *, reference: str, reason: str
) -> Transfer:
    """Give back part or all of what a job was charged.

    Raises AppError `forbidden`, `not_found`, `invalid_request`; `conflict` above what is left of the charge.
    """
    require_role(actor, Role.OPERATOR)
    require_positive(amount)
    if not reason.strip():
        raise AppError("invalid_request", "A refund needs a reason.", field="reason")
    _job_of(session, account_id, job_id)
    transfer = refund(session, job_id, amount, reference=reference, reason=reason)
    record_transfer(session, actor, "job.refunded", transfer, reason=reason)
    return transfer


def set_account_credit_limit(session: Session, actor: Actor, account_id: str, credit_limit: int) -> None:
    """Set how far below zero new jobs may take a wallet, in minor units; open holds stay as they are.

    Raises AppError `forbidden`, `not_found`, `invalid_request`.
    """
    require_role(actor, Role.OPERATOR)
    if credit_limit < 0:
        raise AppError("invalid_request", "A credit limit is 0 or more.", field="amount")
    before = balance(session, account_id)
    set_credit_limit(session, account_id, credit_limit)
    publish_low_balance(session, account_id)
    old, new = (Money(minor, before.currency).text for minor in (before.credit_limit, credit_limit))
    record_action(session, actor, "wallet.credit_limited", account_id, before=old, after=new)


def set_low_balance_alert(session: Session, actor: Actor, account_id: str, threshold: int | None) -> None:
    """Set the balance (minor units) below which the owner is notified; None: never.

    Raises AppError `forbidden`, `not_found`, `invalid_request`.
    """
    require_role(actor, Role.OPERATOR)
    if threshold is not None and threshold < 0:
        raise AppError("invalid_request", "A threshold is 0 or more.", field="amount")
    set_low_balance(session, account_id, threshold)
    limit = None if threshold is None else Money(threshold, get_account(session, account_id).currency).text
    record_action(session, actor, "wallet.low_balance_set", account_id, after=limit)


def top_up_ceiling(currency: str) -> int:
    """Return the largest amount that one operator adds to a wallet alone, in minor units."""
    return Money.parse(get_settings().top_up_max, currency).minor


def require_positive(amount: int) -> None:
    """Raise AppError `invalid_request` for an amount (minor units) that is not more than 0, TypeError for a float."""
    if require_integer(amount, least=None) <= 0:
        raise AppError("invalid_request", "The amount is more than 0.", field="amount")


def _job_of(session: Session, account_id: str, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None or job.account_id != account_id:
        raise not_found("video", job_id)
    return job


def record_transfer(session: Session, actor: Actor, act: str, transfer: Transfer, **facts: object) -> None:
    """Record a transfer of an operator in the audit log, once however often its order is repeated."""
    # A repeated order moves nothing; a second entry would record twice the money.
    if list_entries(session, subject=transfer.id, limit=1):
        return
    moved = {"account": transfer.account_id, "amount": signed_text(transfer), "currency": transfer.currency}
    record_action(session, actor, act, transfer.id, **moved, job=transfer.job_id, reference=transfer.reference, **facts)
