"""Fair shares: virtual time per account and pool, charged by estimate and corrected to the actual use."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.accounts.tables import Account, MembershipPeriod
from app.clock import now
from app.errors import AppError
from app.jobs.queue_tables import Pool, Share, Take
from app.jobs.states import UNFINISHED
from app.jobs.tables import Job
from app.prices.find import book_at


def join_share(session: Session, pool: str, account_id: str, *, weight: Decimal, concurrency: int) -> None:
    """Add an account's share to a pool, or raise its virtual time to the pool's clock: idleness earns no credit.

    As in start-time fair queueing, the pool's clock is the least virtual time among the accounts that could be served,
    without their charges in flight; an account that could be all along is at or past it and stays unchanged.
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
    """Correct an ended take's charge to `used` GPU-seconds; 0 refunds all of it, as when the platform lost the take."""
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
    """Return the ids of accounts with unfinished jobs whose shares differ from their current memberships.

    A submission writes the share, but a membership starts and ends by time alone, and an operator's limit applies to
    jobs that already wait. Before the first price book is in force there is no share.
    """
    try:
        due_shares = _due_shares(session)
    except AppError as error:
        if error.code != "no_rate":
            raise
        return []
    # From one account with unfinished jobs to the next along ix_jobs_open, however many jobs each has.
    open_jobs = Job.state.in_(UNFINISHED)
    first = select(func.min(Job.account_id).label("id")).where(open_jobs).cte("waiting", recursive=True)
    following = select(func.min(Job.account_id)).where(open_jobs, Job.account_id > first.c.id).scalar_subquery()
    waiting = first.union_all(select(following).where(first.c.id.is_not(None)))
    due = due_shares.join(waiting, waiting.c.id == Account.id).subquery()
    differs = (Share.weight != due.c.weight) | (Share.concurrency != due.c.concurrency)
    return session.scalars(
        select(Share.account_id).distinct().join(due, due.c.id == Share.account_id).where(differs)
    ).all()


def lock_shares(session: Session, account_id: str, pools: Collection[str]) -> None:
    """Lock an account's shares in these pools before its ready units change there, which changes their lanes."""
    wanted = select(Share.pool).where(Share.account_id == account_id, Share.pool.in_(pools))
    session.execute(wanted.order_by(Share.pool).with_for_update())


def refresh_share(session: Session, account_id: str) -> bool:
    """Set an account's weight and concurrency by its current membership; return whether this changed anything."""
    # Several rows are locked by the names of their pools, as an order locks them; an update alone has no fixed order.
    session.execute(select(Share.pool).where(Share.account_id == account_id).order_by(Share.pool).with_for_update())
    due = _due_shares(session).where(Account.id == account_id).subquery()
    changed = session.execute(
        update(Share)
        .where(Share.account_id == due.c.id)
        .where((Share.weight != due.c.weight) | (Share.concurrency != due.c.concurrency))
        .values(weight=due.c.weight, concurrency=due.c.concurrency)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def _due_shares(session: Session) -> Select[tuple[str, Any, Any]]:
    """Select the accounts with the weight and the concurrency that their shares should have now."""
    moment = now(session)
    memberships = book_at(session, moment).book.memberships
    membership_name = func.coalesce(MembershipPeriod.name, FREE)
    known_name = case({name: name for name in memberships}, value=membership_name, else_=FREE)
    weight = case({name: each.share_weight for name, each in memberships.items()}, value=known_name)
    concurrency = case({name: each.concurrency for name, each in memberships.items()}, value=known_name)
    return select(
        Account.id, weight.label("weight"), func.coalesce(Account.concurrency, concurrency).label("concurrency")
    ).outerjoin(
        MembershipPeriod,
        (MembershipPeriod.account_id == Account.id)
        & (MembershipPeriod.starts_at <= moment)
        & or_(MembershipPeriod.ends_at.is_(None), MembershipPeriod.ends_at > moment),
    )
