"""The budget of a promotion for all accounts together, divided into shards so that orders do not wait for one another.

What is left is divided: each of the SHARDS rows of a promotion has some room, and together they have exactly what the
budget has left. An order uses the room of one shard that nobody has locked. Where no single shard has enough it uses
several, and where these are not enough either, it waits for all of them, reads anew what all accounts have used, and
divides what is left again. So a transaction that stands still holds up others only when the budget is nearly used up.
"""

from collections.abc import Mapping

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.prices.tables import PromotionShard, PromotionUse
from pricing.money import require_integer

SHARDS = 16

# Each statement locks before it writes, and a materialized CTE is executed once.
_RESERVE_IN_ONE = text(
    """
    WITH chosen AS MATERIALIZED (
        SELECT shard FROM promotion_shards
        WHERE promotion = :promotion AND budget = :budget AND room >= :amount
        ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE promotion_shards AS s SET room = s.room - :amount FROM chosen AS c
    WHERE s.promotion = :promotion AND s.shard = c.shard RETURNING s.shard
    """
)
_ADD_TO_ONE = text(
    """
    WITH chosen AS MATERIALIZED (
        SELECT shard FROM promotion_shards WHERE promotion = :promotion
        ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE promotion_shards AS s SET room = s.room + :amount FROM chosen AS c
    WHERE s.promotion = :promotion AND s.shard = c.shard RETURNING s.shard
    """
)


def budgets_left(session: Session, budgets: Mapping[str, int]) -> dict[str, int]:
    """Return how much of each budget (minor units, by promotion) is left; at least 0."""
    if not budgets:
        return {}
    query = select(PromotionShard.promotion, func.min(PromotionShard.budget), func.sum(PromotionShard.room))
    rows = session.execute(
        query.where(PromotionShard.promotion.in_(sorted(budgets))).group_by(PromotionShard.promotion)
    )
    # A later book may have another budget for the same promotion; what was used counts against it.
    left = {promotion: int(room) + budgets[promotion] - budget for promotion, budget, room in rows}
    for promotion in budgets.keys() - left.keys():
        left[promotion] = budgets[promotion] - _used(session, promotion)
    return {promotion: max(0, minor) for promotion, minor in left.items()}


def reserve_of_budget(session: Session, promotion: str, amount: int, budget: int | None) -> bool:
    """Reserve `amount` of a promotion's budget (both in minor units); return whether it fits.

    The account's own use of the promotion is counted first, in the same transaction. Without a budget in the book in
    force everything fits, and is counted where there was one before.
    """
    require_integer(amount, "amount")
    if budget is None:
        _add(session, promotion, -amount)
        return True
    inputs = {"promotion": promotion, "budget": budget, "amount": amount}
    if session.execute(_RESERVE_IN_ONE, inputs).one_or_none() is not None:
        return True
    return _reserve_in_several(session, promotion, amount, budget) or _divide(session, promotion, amount, budget)


def return_to_budget(session: Session, promotion: str, amount: int) -> None:
    """Return `amount` of a reservation (minor units) that was not used."""
    if require_integer(amount, "amount", least=None):
        _add(session, promotion, amount)


def _add(session: Session, promotion: str, amount: int) -> None:
    """Add to the room of a shard that nobody has locked, or wait for one; nothing where the budget was never used."""
    if session.execute(_ADD_TO_ONE, {"promotion": promotion, "amount": amount}).one_or_none() is None:
        first = PromotionShard.promotion == promotion, PromotionShard.shard == 0
        session.execute(
            update(PromotionShard)
            .where(*first)
            .values(room=PromotionShard.room + amount)
            .execution_options(synchronize_session=False)
        )


def _reserve_in_several(session: Session, promotion: str, amount: int, budget: int) -> bool:
    """Reserve in as few shards as have the room together, of those that nobody has locked; return whether they have."""
    mine = PromotionShard.promotion == promotion, PromotionShard.budget == budget, PromotionShard.room > 0
    largest = select(PromotionShard.shard, PromotionShard.room).where(*mine).order_by(PromotionShard.room.desc())
    rooms, count = [int(row.room) for row in session.execute(largest)], 0
    if sum(rooms) < amount:
        return False
    while sum(rooms[:count]) < amount:
        count += 1
    for limit in (count, SHARDS):
        # Shards that are not enough are released at once: whoever waits for all of them may hold none.
        with session.begin_nested() as savepoint:
            rows = session.execute(largest.limit(limit).with_for_update(skip_locked=True)).all()
            left = sum(row.room for row in rows) - amount
            if left >= 0:
                _spread(session, promotion, budget, left, [row.shard for row in rows])
                return True
            savepoint.rollback()
    return False


def _divide(session: Session, promotion: str, amount: int, budget: int) -> bool:
    """Wait for all shards, reserve, and divide what is left anew among them; return whether `amount` fits."""
    rows = [{"promotion": promotion, "shard": number, "budget": 0, "room": 0} for number in range(SHARDS)]
    session.execute(insert(PromotionShard).values(rows).on_conflict_do_nothing())
    every = select(PromotionShard.shard).where(PromotionShard.promotion == promotion).order_by(PromotionShard.shard)
    shards = list(session.scalars(every.with_for_update()))
    # This reservation is among the uses already: the account's own count comes first.
    left = budget - _used(session, promotion)
    if left < 0:
        return False
    _spread(session, promotion, budget, left, shards)
    return True


def _spread(session: Session, promotion: str, budget: int, left: int, shards: list[int]) -> None:
    """Give these shards, which are locked, equal parts of what is left."""
    count = len(shards)
    for place, shard in enumerate(shards):
        session.execute(
            update(PromotionShard)
            .where(PromotionShard.promotion == promotion, PromotionShard.shard == shard)
            .values(budget=budget, room=left // count + (place < left % count))
            .execution_options(synchronize_session=False)
        )


def _used(session: Session, promotion: str) -> int:
    """Return what all accounts have reserved and spent of a promotion, in minor units."""
    uses = func.coalesce(func.sum(PromotionUse.reserved + PromotionUse.spent), 0)
    # Releases before this one counted all accounts together in a row without an account.
    query = select(uses).where(PromotionUse.promotion == promotion, PromotionUse.account_id != "")
    return int(session.execute(query).scalar_one())
