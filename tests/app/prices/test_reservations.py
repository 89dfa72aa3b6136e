"""Free seconds and promotion budgets: set aside once, used or given back once, never given twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.memberships import grant_membership
from app.clock import now
from app.db import transaction
from app.prices.audit import audit_prices
from app.prices.books import approve_book, draft_book, schedule_book
from app.prices.find import book_at
from app.prices.reservations import (
    FLICKS_PER_SECOND,
    Allowance,
    PriceUse,
    ReservationConflict,
    allowance,
    release_reservation,
    reserve,
    settle_reservation,
)
from app.prices.seed import seed_book
from pricing.price import Price, price
from pricing.rate_key import RateKey
from pricing.usage import Customer, Usage
from tests.app.prices.price_documents import ALONE, CAPPED, book_text

# The shipped book gives studio members 60 free seconds a month.
FREE = 60


@pytest.fixture
def account(session: Session) -> str:
    return furnish(session, "Studio Wu")


def furnish(session: Session, name: str) -> str:
    seed_book(session, book_text("first", extra=CAPPED))
    account_id = create_account(session, name).id
    grant_membership(session, account_id, "studio", starts_at=now(session))
    return account_id


def left(session: Session, account_id: str) -> Allowance:
    return allowance(session, account_id, book_at(session, now(session)).book, "studio", now(session))


def take(session: Session, account_id: str, owner: str, seconds: Fraction | int = 0, **promotions: int) -> None:
    reserve(session, account_id, {owner: PriceUse(Fraction(seconds), promotions)})


def later(session: Session, days: float) -> None:
    session.commit()
    session.info["clock_offset"] = session.info.get("clock_offset", timedelta(0)) + timedelta(days=days)


def test_nothing_reserved_leaves_no_row(session: Session, account: str) -> None:
    take(session, account, "quote_1", **{"launch-2026": 100})
    assert not settle_reservation(session, "quote_1", free_seconds=Fraction(3), promotions={})
    assert not release_reservation(session, "quote_1")
    assert session.execute(text("SELECT count(*) FROM reservations")).scalar_one() == 0


def test_a_reservation_excludes_others_and_can_be_released(session: Session, account: str) -> None:
    assert left(session, account) == Allowance(Fraction(FREE), {"welcome": 300})
    take(session, account, "quote_1", Fraction(121, 24), welcome=120)
    assert left(session, account) == Allowance(FREE - Fraction(121, 24), {"welcome": 180})
    assert release_reservation(session, "quote_1")
    assert not release_reservation(session, "quote_1")
    assert not settle_reservation(session, "quote_1", free_seconds=Fraction(5), promotions={"welcome": 120})
    assert left(session, account) == Allowance(Fraction(FREE), {"welcome": 300})
    assert audit_prices(session) == []


def test_what_was_used_is_spent_and_the_rest_comes_back(session: Session, account: str) -> None:
    take(session, account, "quote_1", 10, welcome=120)
    assert settle_reservation(
        session, "quote_1", free_seconds=Fraction(97, 24), promotions={"welcome": 50, "launch-2026": 9}
    )
    assert left(session, account) == Allowance(FREE - Fraction(97, 24), {"welcome": 250})
    assert not settle_reservation(session, "quote_1", free_seconds=Fraction(10), promotions={"welcome": 120})
    take(session, account, "quote_2", 10, welcome=10)
    settle_reservation(session, "quote_2", free_seconds=Fraction(999), promotions={"welcome": 999})
    assert left(session, account) == Allowance(FREE - 10 - Fraction(97, 24), {"welcome": 240})
    assert audit_prices(session) == []


def test_a_reservation_that_does_not_fit_writes_nothing(session: Session, account: str) -> None:
    take(session, account, "quote_1", 50, welcome=200)
    before = left(session, account)
    for seconds, discount in ((11, 10), (10, 101), (61, 0), (0, 301)):
        with pytest.raises(ReservationConflict):
            take(session, account, "quote_2", seconds, welcome=discount)
        assert left(session, account) == before
    take(session, account, "quote_2", 10, welcome=100)
    assert left(session, account) == Allowance(Fraction(0), {"welcome": 0})
    assert audit_prices(session) == []


def test_a_promotions_whole_budget_binds_all_accounts_together(session: Session, account: str) -> None:
    other = furnish(session, "Studio Li")
    take(session, account, "quote_1", welcome=300)
    assert left(session, other).promotions == {"welcome": 200}
    with pytest.raises(ReservationConflict):
        take(session, other, "quote_2", welcome=201)
    take(session, other, "quote_2", welcome=200)
    third = furnish(session, "Studio Xu")
    assert left(session, third).promotions == {"welcome": 0}
    assert audit_prices(session) == []


def test_free_seconds_come_anew_each_billing_month(session: Session, account: str) -> None:
    take(session, account, "quote_1", FREE)
    later(session, 31)
    assert left(session, account).free_seconds == FREE
    # Reserved in the month before, and given back to it.
    assert settle_reservation(session, "quote_1", free_seconds=Fraction(0), promotions={})
    assert left(session, account).free_seconds == FREE
    take(session, account, "quote_2", FREE)
    assert left(session, account).free_seconds == 0
    assert audit_prices(session) == []


def test_a_promotion_goes_on_counting_in_a_later_book(session: Session, account: str) -> None:
    take(session, account, "quote_1", welcome=300)
    stored = draft_book(session, ALONE, book_text("second", extra=CAPPED.replace("3.00", "4.00")))
    approve_book(session, ALONE, stored.id, content_hash=stored.content_hash)
    schedule_book(session, ALONE, stored.id, now(session) + timedelta(hours=1))
    later(session, 1)
    assert left(session, account).promotions == {"welcome": 100}


def test_an_ended_membership_has_no_free_seconds(session: Session, account: str) -> None:
    other = create_account(session, "Free").id
    book = book_at(session, now(session)).book
    assert allowance(session, other, book, "free", now(session)).free_seconds == 0
    with pytest.raises(ReservationConflict):
        take(session, other, "quote_1", 1)
    assert left(session, account).free_seconds == FREE


@given(st.fractions(0, 100, max_denominator=10_000_000))
def test_free_seconds_are_never_counted_short(seconds: Fraction) -> None:
    flicks = -(-seconds * FLICKS_PER_SECOND // 1)
    assert Fraction(flicks, FLICKS_PER_SECOND) >= seconds


def promised(session: Session, account_id: str, seconds: int) -> Price:
    """Price a film for an account as a quote does, on what is left to it now."""
    moment = now(session)
    book = book_at(session, moment).book
    may = allowance(session, account_id, book, "studio", moment)
    usage = Usage(RateKey("wan2.1-t2v-1.3b", "720P"), Fraction(seconds))
    customer = Customer("studio", free_seconds=may.free_seconds, promotions_left=may.promotions)
    return price(book, usage, customer, moment)


def test_two_quotes_on_the_same_free_seconds(engine: Engine) -> None:
    """Both are priced on all that is left; one gets it, the other must price again and pays."""
    with transaction(engine) as session:
        account = furnish(session, "Studio Wu")
    with Session(engine) as one, Session(engine) as two:
        prices = [promised(session, account, FREE) for session in (one, two)]
        assert [offer.free_seconds_used for offer in prices] == [FREE, FREE]
        reserve(one, account, {"quote_1": PriceUse(prices[0].free_seconds_used, prices[0].promotions)})
        with ThreadPoolExecutor(1) as pool:
            # The second waits for the first one's row, and is refused when that commits.
            waiting = pool.submit(reserve, two, account, {"quote_2": PriceUse(prices[1].free_seconds_used)})
            one.commit()
            with pytest.raises(ReservationConflict):
                waiting.result(timeout=60)
        again = promised(two, account, FREE)
        assert again.free_seconds_used == 0
        assert again.total > prices[1].total
        reserve(two, account, {"quote_2": PriceUse(again.free_seconds_used, again.promotions)})
        two.commit()
    with transaction(engine) as session:
        assert audit_prices(session) == []


def test_many_quotes_at_once_give_no_second_and_no_fen_twice(engine: Engine) -> None:
    with transaction(engine) as session:
        accounts = [furnish(session, name) for name in ("Wu", "Li")]

    def story(number: int) -> Callable[[], str]:
        owner, account = f"quote_{number}", accounts[number % 2]

        def tell() -> str:
            try:
                with transaction(engine) as session:
                    take(session, account, owner, 7, welcome=40)
            except ReservationConflict:
                return "refused"
            with transaction(engine) as session:
                if number % 3 == 0:
                    release_reservation(session, owner)
                elif number % 3 == 1:
                    settle_reservation(session, owner, free_seconds=Fraction(7, 2), promotions={"welcome": 25})
            return "kept"

        return tell

    with ThreadPoolExecutor(16) as pool:
        outcomes = [future.result(timeout=120) for future in [pool.submit(story(number)) for number in range(64)]]
    assert set(outcomes) == {"kept", "refused"}
    with transaction(engine) as session:
        for account in accounts:
            assert left(session, account).free_seconds >= 0
        spent = "SELECT sum(reserved + spent) FROM promotion_uses"
        assert session.execute(text(spent)).scalar_one() <= 500
        assert audit_prices(session) == []
