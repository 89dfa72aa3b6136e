"""Open, find, limit, suspend and reinstate an account."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.billing_periods import read_zone
from app.accounts.tables import Account, AccountKind
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.provenance.label_policy import VisibleLabel
from app.settings import get_settings

DEFAULT_CURRENCY = "CNY"


def create_account(
    session: Session,
    name: str,
    *,
    kind: str = AccountKind.PREPAID,
    currency: str = DEFAULT_CURRENCY,
    billing_zone: str | None = None,
    test: bool = False,
) -> Account:
    """Open an account. Its wallet is opened beside it by `app.wallet.balance.open_wallet`.

    `name`: what people call it. `kind`: `prepaid` or `invoiced`. `currency`: ISO 4217 code of its wallet; price books
    in another currency do not apply to it. `billing_zone`: IANA time zone of its billing months; the setting's by
    default. `test`: true for an account that may only have test keys.

    Raises AppError `invalid_request`.
    """
    if not name.strip():
        raise AppError("invalid_request", "An account needs a name.", field="name")
    kinds = [str(known) for known in AccountKind]
    if kind not in kinds:
        raise AppError("invalid_request", f"{kind!r} is no kind of account.", field="kind", allowed=kinds)
    account = Account(
        id=new_id("acct"),
        name=name.strip(),
        kind=str(kind),
        currency=currency,
        billing_zone=read_zone(billing_zone or get_settings().billing_zone),
        test=test,
        created_at=now(session),
    )
    session.add(account)
    session.flush()
    return account


def get_account(session: Session, account_id: str) -> Account:
    """Return an account. Raises `not_found`."""
    account = session.get(Account, account_id)
    if account is None:
        raise not_found("account", account_id)
    return account


def list_accounts(session: Session, *, after: str | None = None, limit: int = 100) -> list[Account]:
    """Return up to `limit` accounts in the order of their ids, after the one named."""
    query = select(Account).order_by(Account.id).limit(limit)
    return list(session.scalars(query if after is None else query.where(Account.id > after)))


def set_limits(session: Session, account_id: str, *, concurrency: int | None, queue_limit: int | None) -> Account:
    """Set an operator's own limits for an account; None leaves what its membership says. Raises `not_found`."""
    account = get_account(session, account_id)
    if concurrency is not None and concurrency < 1:
        raise AppError("invalid_request", "At least one take must be able to run.", field="concurrency")
    if queue_limit is not None and queue_limit < 0:
        raise AppError("invalid_request", "A queue limit is 0 or more.", field="queue_limit")
    account.concurrency, account.queue_limit = concurrency, queue_limit
    session.flush()
    return account


def set_visible_label(session: Session, account_id: str, label: VisibleLabel | None) -> Account:
    """Set the label that the account's films show; None applies the setting's. Raises `not_found`."""
    account = get_account(session, account_id)
    account.visible_label = label
    session.flush()
    return account


def require_declarations(session: Session, account_id: str, is_required: bool) -> Account:
    """Set whether the account has to declare that it may use the files that it sends. Raises `not_found`."""
    account = get_account(session, account_id)
    account.declarations_required = is_required
    session.flush()
    return account


def declare_rights(session: Session, account_id: str, person: str | None) -> Account:
    """Record that a person of the account declares, for all files that it sends, that it may use them; None ends that.

    Raises `not_found`.
    """
    account = get_account(session, account_id)
    account.rights_declared_at = None if person is None else account.rights_declared_at or now(session)
    account.rights_declared_by = None if person is None else account.rights_declared_by or person
    session.flush()
    return account


def suspend(session: Session, account_id: str, reason: str) -> Account:
    """Suspend an account: no new jobs or keys. What was accepted before is finished. Idempotent."""
    account = get_account(session, account_id)
    if account.suspended_at is None:
        account.suspended_at, account.suspended_reason = now(session), reason
        session.flush()
    return account


def reinstate(session: Session, account_id: str) -> Account:
    """End an account's suspension. Idempotent."""
    account = get_account(session, account_id)
    account.suspended_at = account.suspended_reason = None
    session.flush()
    return account
