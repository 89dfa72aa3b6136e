"""Accounts for operators: search, and the newest films of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, select, tuple_
from sqlalchemy.orm import Session

from app.accounts.memberships import memberships_at
from app.accounts.tables import Account, Member
from app.clock import now
from app.jobs.find import receipts_of
from app.jobs.tables import Job, ReceiptRow
from app.wallet.balance import available_now
from app.wallet.tables import Wallet

# The days whose charges the list of accounts shows.
SPENT_DAYS = 30


@dataclass(frozen=True)
class AccountRow:
    """One account in the list of accounts."""

    id: str
    name: str
    kind: str
    membership: str
    is_suspended: bool
    created_at: datetime
    currency: str
    figures: "AccountFigures"


@dataclass(frozen=True)
class AccountFigures:
    """What an account has and does, in minor units: available now, spent by films settled in the last SPENT_DAYS days.

    `last_order_at` is the time of its newest film, test films included; None where it has ordered none.
    """

    available: int = 0
    spent: int = 0
    last_order_at: datetime | None = None


@dataclass(frozen=True)
class JobRow:
    """One film of an account. `total` is the quoted price in minor units, `charged` the charge, None until it ends."""

    id: str
    prompt: str  # its first line
    state: str
    total: int
    charged: int | None
    currency: str
    created_at: datetime
    test: bool


def search_accounts(
    session: Session, search: str = "", *, after: str | None = None, limit: int
) -> tuple[list[AccountRow], bool]:
    """Return a page of accounts, oldest first, and whether more follow.

    `search` matches a part of the account's name or of a member's e-mail, or the account's id. An unknown `after`
    starts at the beginning.
    """
    query = select(Account).order_by(Account.created_at, Account.id)
    if search:
        query = query.where(matches_account(search))
    last = session.get(Account, after) if after else None
    if last is not None:
        query = query.where(tuple_(Account.created_at, Account.id) > (last.created_at, last.id))
    accounts = session.scalars(query.limit(limit + 1)).all()
    return _rows(session, accounts[:limit]), len(accounts) > limit


def newest_jobs(session: Session, account_id: str, *, limit: int = 10) -> list[JobRow]:
    """Return the newest films of an account, newest first."""
    query = select(Job).where(Job.account_id == account_id).order_by(Job.created_at.desc(), Job.id).limit(limit)
    jobs = session.scalars(query).all()
    receipts = receipts_of(session, jobs)
    return [
        JobRow(
            id=job.id,
            prompt=job.prompt.partition("\n")[0],
            state=job.state,
            total=job.total,
            charged=charge_of(job, receipts.get(job.id)),
            currency=job.currency,
            created_at=job.created_at,
            test=job.test,
        )
        for job in jobs
    ]


def charge_of(job: Job, receipt: ReceiptRow | None) -> int | None:
    """Return what a film was charged in minor units, 0 for a test film, or None where it has not ended."""
    if receipt is None:
        return None
    return 0 if job.test else receipt.total


def read_figures(session: Session, account_ids: Sequence[str]) -> dict[str, AccountFigures]:
    """Return the figures of some accounts by id. It reads their receipts of the last days and their newest film."""
    moment = now(session)
    spent = (
        select(func.coalesce(func.sum(ReceiptRow.total), 0))
        .where(ReceiptRow.account_id == Account.id, ReceiptRow.settled_at >= moment - timedelta(days=SPENT_DAYS))
        .where(ReceiptRow.test.is_(False))
        .scalar_subquery()
    )
    newest = (
        select(Job.created_at)
        .where(Job.account_id == Account.id)
        .order_by(Job.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    # An account without a wallet, such as the one of the service itself, has nothing.
    available = select(available_now(moment)).where(Wallet.account_id == Account.id).scalar_subquery()
    query = select(Account.id, func.coalesce(available, 0), spent, newest).where(Account.id.in_(account_ids))
    return {row[0]: AccountFigures(int(row[1]), int(row[2]), row[3]) for row in session.execute(query)}


def _rows(session: Session, accounts: Sequence[Account]) -> list[AccountRow]:
    ids = [each.id for each in accounts]
    memberships, figures = memberships_at(session, ids, now(session)), read_figures(session, ids)
    return [
        AccountRow(
            id=each.id,
            name=each.name,
            kind=each.kind,
            membership=memberships[each.id],
            is_suspended=each.suspended_at is not None,
            created_at=each.created_at,
            currency=each.currency,
            figures=figures[each.id],
        )
        for each in accounts
    ]


def matches_account(search: str) -> ColumnElement[bool]:
    """Return the condition that an account has this id, or this text in its name or in a member's e-mail.

    It reads the accounts and members, of which there are few; nothing that grows with orders.
    """
    term = search.strip()
    is_member = (Member.account_id == Account.id) & Member.removed_at.is_(None)
    has_member = exists().where(is_member, Member.email.icontains(term, autoescape=True))
    return Account.name.icontains(term, autoescape=True) | (Account.id == term) | has_member
