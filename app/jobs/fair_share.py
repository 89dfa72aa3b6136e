"""Fair shares: virtual time per account and pool, charged by estimate and corrected to what was really used."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.accounts.tables import Account, MembershipPeriod
from app.clock import now
from app.jobs.queue_tables import Pool, Share, Take
from app.jobs.tables import Job
from app.prices.find import book_at


def advance_clock(session: Session, pool: str, vmin: Decimal) -> None:
    """Move the pool's virtual clock to `vmin` of claim.sql, in GPU-seconds by weight; it never goes back."""
    row = insert(Pool).values(name=pool, vclock=vmin)
    ahead = Pool.vclock < vmin
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"vclock": vmin}, where=ahead))


def join_share(session: Session, pool: str, account_id: str, *, weight: Decimal, concurrency: int) -> None:
    """Enter an account's share in a pool, lifted to the present: idleness earns no credit.

    The lift (start-time fair queueing) raises the account's virtual time to the pool's clock, which is the least
    virtual time among the accounts that could be served, what they have in flight left out; one that has been waiting
    all along is at or past it, so for that one nothing changes.
    """
    clock = session.scalar(select(Pool.vclock).where(Pool.name == pool)) or Decimal(0)
    row = insert(Share).values(pool=pool, account_id=account_id, vtime=clock, weight=weight, concurrency=concurrency)
    session.execute(
        row.on_conflict_do_update(
            index_elements=["pool", "account_id"],
            set_={
                "vtime": func.greatest(Share.vtime, row.excluded.vtime),
                "weight": weight,
                "concurrency": concurrency,
            },
        )
    )


def settle_share(session: Session, take: Take, used: Decimal) -> None:
    """Correct an ended take's charge to `used` GPU-seconds; 0 gives all of it back, as when the platform lost it."""
    if take.share_settled:
        return
    correction = used - take.charged
    session.execute(
        update(Share)
        .where(Share.pool == take.pool, Share.account_id == take.account_id)
        .values(vtime=func.greatest(Share.vtime + correction / Share.weight, 0))
    )
    take.share_settled = True


def stale_shares(session: Session) -> Sequence[str]:
    """Return the ids of accounts with unfinished jobs whose shares are not what their memberships say now.

    A submission writes them, but a membership begins and ends by time alone, and an operator's limit binds what
    already waits.
    """
    # From one account with unfinished jobs to the next along ix_jobs_open, however many jobs each has.
    open_jobs = Job.state.in_(("queued", "in_progress"))
    first = select(func.min(Job.account_id).label("id")).where(open_jobs).cte("waiting", recursive=True)
    following = select(func.min(Job.account_id)).where(open_jobs, Job.account_id > first.c.id).scalar_subquery()
    waiting = first.union_all(select(following).where(first.c.id.is_not(None)))
    due = _due_shares(session).join(waiting, waiting.c.id == Account.id).subquery()
    differs = (Share.weight != due.c.weight) | (Share.concurrency != due.c.concurrency)
    return session.scalars(
        select(Share.account_id).distinct().join(due, due.c.id == Share.account_id).where(differs)
    ).all()


def refresh_share(session: Session, account_id: str) -> bool:
    """Bring an account's weight and cap to what its membership says now; return whether this changed anything."""
    due = _due_shares(session).where(Account.id == account_id).subquery()
    changed = session.execute(
        update(Share)
        .where(Share.account_id == due.c.id)
        .where((Share.weight != due.c.weight) | (Share.concurrency != due.c.concurrency))
        .values(weight=due.c.weight, concurrency=due.c.concurrency)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def _due_shares(session: Session) -> Select[tuple[str, Any, Any]]:
    """Select the accounts with the weight and the cap that their shares should have now."""
    moment = now(session)
    memberships = book_at(session, moment).book.memberships
    held = func.coalesce(MembershipPeriod.name, FREE)
    named = case({name: name for name in memberships}, value=held, else_=FREE)
    weight = case({name: each.share_weight for name, each in memberships.items()}, value=named)
    concurrency = case({name: each.concurrency for name, each in memberships.items()}, value=named)
    return select(
        Account.id, weight.label("weight"), func.coalesce(Account.concurrency, concurrency).label("concurrency")
    ).outerjoin(
        MembershipPeriod,
        (MembershipPeriod.account_id == Account.id)
        & (MembershipPeriod.starts_at <= moment)
        & or_(MembershipPeriod.ends_at.is_(None), MembershipPeriod.ends_at > moment),
    )
