"""Fair shares: virtual time per account and pool, charged by estimate and corrected to what was really used."""

from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.jobs.queue_tables import Pool, Share, Take


def advance_clock(session: Session, pool: str, vmin: Decimal) -> None:
    """Move the pool's virtual clock to the least virtual time in service; it never goes back."""
    row = insert(Pool).values(name=pool, vclock=vmin)
    ahead = Pool.vclock < vmin
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"vclock": vmin}, where=ahead))


def join_pool(session: Session, pool: str, account_id: str, *, weight: Decimal, concurrency: int) -> None:
    """Enter an account's share in a pool, lifted to the present: idleness earns no credit.

    The lift (start-time fair queueing) raises the account's virtual time to the pool's clock; an account that has
    been waiting all along is already at or past it, so for that one nothing changes.
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
