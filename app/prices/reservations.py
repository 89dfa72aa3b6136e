"""Reservations of free seconds and promotion budgets by a quote, or by a job without one.

Counters are kept by conditional updates, in the order free seconds, promotions per account, budgets of promotions,
after shares and lanes, and before anything in the wallet (app.lock_order). A promotion is known by its id: a later book
that carries the same id goes on counting. Free seconds count in the billing month in which they were reserved.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.billing_periods import billing_month
from app.accounts.memberships import membership_at
from app.clock import now
from app.errors import AppError
from app.prices.find import book_at
from app.prices.promotion_budgets import budgets_left, reserve_of_budget, return_to_budget
from app.prices.tables import FreeUse, PromotionUse, Reservation
from app.sql_statements import sql_file
from pricing.book import PriceBook
from pricing.exact import parse_exact
from pricing.money import Money, require_integer
from pricing.rules import Membership, Promotion

# A flick, 1/705,600,000 of a second, divides the frame of every usual rate (24, 25, 30, 50, 60, 1001ths among them),
# so that counters are whole numbers and lose nothing. https://github.com/facebookarchive/Flicks
FLICKS_PER_SECOND = 705_600_000

_RESERVE = sql_file("app.prices", "reserve.sql")
_RESOLVE = sql_file("app.prices", "resolve_reservation.sql")


@dataclass(frozen=True)
class Allowance:
    """What an account may still use: free seconds of this month, and discount (minor units) per capped promotion."""

    free_seconds: Fraction
    promotions: dict[str, int | None]


class ReservationConflict(AppError):
    """Another quote or job used what this price was made with. Price again; less is left."""

    def __init__(self, what: str) -> None:
        super().__init__("conflict", f"{what} were used by another request just now; try again.", what=what)


def allowance(session: Session, account_id: str, book: PriceBook, membership: str, at: datetime) -> Allowance:
    """Return what an account may still use at a moment, as `pricing.usage.Customer` expects it."""
    used = 0
    if book.membership(membership).free_seconds_per_month:
        month = billing_month(get_account(session, account_id).billing_zone, at)
        mine = select(FreeUse.reserved + FreeUse.spent).where(FreeUse.account_id == account_id, FreeUse.month == month)
        used = session.execute(mine).scalar_one_or_none() or 0
    return allowance_beside(session, account_id, book, membership, at, free_used=used)


def allowance_beside(
    session: Session, account_id: str, book: PriceBook, membership: str, at: datetime, *, free_used: int
) -> Allowance:
    """Return what an account may still use at a moment when it has used `free_used` flicks of the month's seconds."""
    limit = book.membership(membership).free_seconds_per_month
    free = max(Fraction(0), limit - Fraction(free_used, FLICKS_PER_SECOND)) if limit else Fraction(0)
    capped = [promotion for promotion in book.promotions_at(at) if promotion.capped]
    return Allowance(free, _discounts_left(session, account_id, capped))


class PriceUse(NamedTuple):
    """What one price uses: `Price.free_seconds_used` and `Price.promotions` (minor units by promotion).

    Of the promotions only those that the book in force caps are counted.
    """

    free_seconds: Fraction = Fraction(0)
    promotions: Mapping[str, int] = MappingProxyType({})


def reserve(session: Session, account_id: str, uses: Mapping[str, PriceUse]) -> None:
    """Set aside what prices use, in the transaction that made the prices. All of it, or nothing.

    `account_id`: whose prices they are. `uses`: by the id of the quote, or of the job without one;
    `settle_reservation` and `release_reservation` are called with it.

    Raises ReservationConflict where others were faster: nothing was written; price again.
    """
    moment = now(session)
    book = book_at(session, moment).book
    membership = book.membership(book.known_membership(membership_at(session, account_id, moment)))
    month = billing_month(get_account(session, account_id).billing_zone, moment)
    with session.begin_nested():
        reserve_by(session, account_id, uses, book=book, membership=membership, month=month)


def reserve_by(
    session: Session,
    account_id: str,
    uses: Mapping[str, PriceUse],
    *,
    book: PriceBook,
    membership: Membership,
    month: str,
) -> None:
    """Do what `reserve` does, by a book, a membership and a billing month that the caller knows are of now.

    Raises ReservationConflict where others were faster: the caller takes back what was written.
    """
    caps = {promotion.id: promotion for promotion in book.promotions if promotion.capped}
    reservations, flicks, discounts = [], 0, dict.fromkeys(sorted(caps), 0)
    for owner, use in uses.items():
        minor = {name: require_integer(use.promotions[name], f"the discount of {name}") for name in use.promotions}
        own = {name: amount for name, amount in minor.items() if name in caps and amount}
        free = ceil(parse_exact(use.free_seconds, "free_seconds") * FLICKS_PER_SECOND)
        if free or own:
            reservations.append((owner, free, own))
            flicks += free
            discounts |= {name: discounts[name] + amount for name, amount in own.items()}
    if not reservations:
        return
    counted = {name: amount for name, amount in discounts.items() if amount}
    inputs = {
        "account_id": account_id,
        "reservations": json.dumps(reservations),
        "month": month,
        "now": now(session),
        "free": flicks,
        "free_limit": membership.free_seconds_per_month * FLICKS_PER_SECOND,
        "promotions": json.dumps({name: (counted[name], _minor(caps[name].cap_per_account)) for name in counted}),
    }
    fits = _RESERVE.run(session, inputs).one()
    if flicks and not fits.has_free:
        raise ReservationConflict("Free seconds")
    for name in counted:
        if name not in (fits.promotions or ()):
            raise ReservationConflict(f"Discounts of the promotion {name}")
    # All of the account's own counts before the budgets, each by name: one order of locks for every price.
    for name, amount in counted.items():
        if not reserve_of_budget(session, name, amount, _minor(caps[name].budget)):
            raise ReservationConflict(f"Discounts of the promotion {name}")


def settle_reservation(session: Session, owner: str, *, free_seconds: Fraction, promotions: Mapping[str, int]) -> bool:
    """Count what was used of a reservation and release the rest; return whether this call did it.

    Never more than was reserved. An owner with nothing reserved, or settled before, is left as it is.
    """
    flicks = ceil(parse_exact(free_seconds, "free_seconds") * FLICKS_PER_SECOND)
    discounts = {
        name: require_integer(minor, f"the discount of {name}", least=None) for name, minor in promotions.items()
    }
    return _resolve(session, owner, "settled", flicks, {name: max(0, minor) for name, minor in discounts.items()})


def release_reservation(session: Session, *owners: str) -> bool:
    """Release a reservation: the quote expired, or its job used nothing; return whether this call did it.

    Several owners are those of one order, such as the quotes of its films.
    """
    if len(owners) > 1:
        _lock_counters(session, owners)
    rows = [_resolve_counters(session, owner, "returned", 0, {}) for owner in owners]
    returned: dict[str, int] = {}
    for row in rows:
        for name, minor in ({} if row is None else row.promotions).items():
            returned[name] = returned.get(name, 0) + minor
    for name in sorted(returned):
        return_to_budget(session, name, returned[name])
    return any(row is not None for row in rows)


def _lock_counters(session: Session, owners: Sequence[str]) -> None:
    """Lock what several reservations count in: the reservations, then free seconds, then promotions by their names."""
    mine = select(Reservation).where(Reservation.quote_id.in_(owners), Reservation.state == "held")
    held = session.scalars(mine.order_by(Reservation.quote_id).with_for_update()).all()
    accounts = {each.account_id for each in held}
    months, names = {each.month for each in held}, {name for each in held for name in each.promotions}
    free = select(FreeUse.month).where(FreeUse.account_id.in_(accounts), FreeUse.month.in_(months))
    session.execute(free.order_by(FreeUse.account_id, FreeUse.month).with_for_update())
    uses = select(PromotionUse.promotion).where(
        PromotionUse.account_id.in_(accounts), PromotionUse.promotion.in_(names)
    )
    session.execute(uses.order_by(PromotionUse.promotion).with_for_update())


def _discounts_left(session: Session, account_id: str, capped: list[Promotion]) -> dict[str, int | None]:
    """Return what is left to an account of each capped promotion, in minor units."""
    if not capped:
        return {}
    own = select(PromotionUse.promotion, PromotionUse.reserved + PromotionUse.spent).where(
        PromotionUse.promotion.in_([promotion.id for promotion in capped]), PromotionUse.account_id == account_id
    )
    used = {name: int(minor) for name, minor in session.execute(own)}
    budgets = {promotion.id: promotion.budget.minor for promotion in capped if promotion.budget is not None}
    of_everybody = budgets_left(session, budgets)
    left: dict[str, int | None] = {}
    for promotion in capped:
        cap = _minor(promotion.cap_per_account)
        limits = [] if cap is None else [cap - used.get(promotion.id, 0)]
        limits += [of_everybody[promotion.id]] if promotion.id in of_everybody else []
        left[promotion.id] = max(0, min(limits))
    return left


def _minor(limit: Money | None) -> int | None:
    return None if limit is None else limit.minor


def _resolve(session: Session, owner: str, state: str, flicks: int, discounts: Mapping[str, int]) -> bool:
    row = _resolve_counters(session, owner, state, flicks, discounts)
    if row is None:
        return False
    for name in sorted(row.promotions):
        return_to_budget(session, name, row.promotions[name] - row.promotions_used.get(name, 0))
    return True


def _resolve_counters(
    session: Session, owner: str, state: str, flicks: int, discounts: Mapping[str, int]
) -> Row[Any] | None:
    """Resolve a reservation without the budgets of its promotions; return None where nothing is reserved."""
    inputs = {"owner": owner, "state": state, "now": now(session), "flicks": flicks}
    row: Row[Any] | None = _RESOLVE.run(session, {**inputs, "discounts": json.dumps(discounts)}).one_or_none()
    return row
