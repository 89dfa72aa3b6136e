"""The budget of a promotion for everybody: never exceeded, used up only when it is, and held up by nobody alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction
from threading import Barrier

import psycopg
import pytest
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
    PriceUse,
    ReservationConflict,
    allowance,
    release_reservation,
    reserve,
    settle_reservation,
)
from app.prices.seed import seed_book
from app.settings import get_settings
from tests.app.prices.price_documents import ALONE, CAPPED, book_text
from tests.faults.standstill import frozen

BUDGET = 1000
THREADS = 12


def book_of(budget: int, name: str = "first") -> str:
    """A book with a promotion for everybody of this budget in minor units, and without a cap per account."""
    lines = CAPPED.replace('cap_per_account = "3.00"\n', "").replace('"5.00"', f'"{budget // 100}.{budget % 100:02}"')
    return book_text(name, extra=lines)


@pytest.fixture
def accounts(engine: Engine) -> list[str]:
    """Accounts that share the promotion `welcome`."""
    with transaction() as session:
        seed_book(session, book_of(BUDGET))
        ids = [create_account(session, f"Studio {number}").id for number in range(THREADS)]
        for account_id in ids:
            grant_membership(session, account_id, "studio", starts_at=now(session))
        return ids


def take(session: Session, account_id: str, owner: str, amount: int) -> None:
    reserve(session, account_id, {owner: PriceUse(promotions={"welcome": amount})})


def left(account_id: str) -> int | None:
    with transaction() as session:
        book = book_at(session, now(session)).book
        return allowance(session, account_id, book, "studio", now(session)).promotions["welcome"]


def audit() -> list[object]:
    with transaction() as session:
        return list(audit_prices(session))


def all_at_once(act: Callable[[int], int]) -> list[int]:
    """Call `act` with the number of each thread, all at the same moment; return what each returned."""
    together = Barrier(THREADS, timeout=60)

    def start(number: int) -> int:
        together.wait()
        return act(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(120) for future in [pool.submit(start, number) for number in range(THREADS)]]


@pytest.mark.parametrize("amount", [30, 90, 400])
def test_everything_of_a_budget_is_given_and_not_a_fen_more(accounts: list[str], amount: int) -> None:
    """90 is more than the room of one shard, and 400 more than that of six."""

    def use_up(number: int) -> int:
        count = 0
        while True:
            try:
                with transaction() as session:
                    take(session, accounts[number], f"quote_{number}_{count}", amount)
            except ReservationConflict:
                return count
            count += 1

    assert sum(all_at_once(use_up)) == BUDGET // amount
    assert left(accounts[0]) == BUDGET % amount
    assert audit() == []


def test_what_comes_back_is_given_again(accounts: list[str]) -> None:
    def use_and_return(number: int) -> int:
        kept = 0
        for count in range(4):
            owner = f"quote_{number}_{count}"
            try:
                with transaction() as session:
                    take(session, accounts[number], owner, 60)
            except ReservationConflict:
                continue
            with transaction() as session:
                if count % 2:
                    release_reservation(session, owner)
                else:
                    settle_reservation(session, owner, free_seconds=Fraction(0), promotions={"welcome": 5})
                    kept += 5
        return kept

    used = sum(all_at_once(use_and_return))
    assert left(accounts[0]) == BUDGET - used
    assert audit() == []


def test_an_order_that_stands_still_stops_no_other(accounts: list[str]) -> None:
    with transaction() as session:
        take(session, accounts[0], "quote_first", 10)
    with frozen(lambda session: take(session, accounts[1], "quote_frozen", 20)) as still:
        for number in range(2, THREADS):
            with transaction() as session:
                session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                take(session, accounts[number], f"quote_{number}", 80)
            with transaction() as session:
                session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                settle_reservation(session, f"quote_{number}", free_seconds=Fraction(0), promotions={"welcome": 70})
        assert still.stands()
    assert left(accounts[0]) == BUDGET - 10 - 70 * (THREADS - 2)
    assert audit() == []


def test_the_last_of_a_budget_is_waited_for(accounts: list[str], database_url: str, engine: Engine) -> None:
    """Whether it is used up is known only when the order that has the rest of it has ended."""
    with transaction() as session:
        take(session, accounts[0], "quote_first", BUDGET - 100)
    with ThreadPoolExecutor(1) as pool, Session(engine) as first, psycopg.connect(database_url, autocommit=True) as own:
        take(first, accounts[1], "quote_1", 60)

        def take_second() -> None:
            with transaction() as session:
                take(session, accounts[2], "quote_2", 60)

        second = pool.submit(take_second)
        while own.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() is None:
            assert not second.done()
        first.rollback()
        second.result(60)
    assert left(accounts[0]) == 40
    assert audit() == []


def test_a_later_book_changes_the_budget_and_counts_what_was_used(
    accounts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        take(session, accounts[0], "quote_1", 300)
    for hours, name, budget, rest in ((2, "cut", 200, 0), (4, "raised", 5000, 4700)):
        with transaction() as session:
            stored = draft_book(session, ALONE, book_of(budget, name))
            approve_book(session, ALONE, stored.id, content_hash=stored.content_hash)
            schedule_book(session, ALONE, stored.id, now(session) + timedelta(hours=1))
        monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(3600 * hours))
        get_settings.cache_clear()
        assert left(accounts[1]) == rest
        if not rest:
            with pytest.raises(ReservationConflict), transaction() as session:
                take(session, accounts[1], "quote_2", 1)
    with transaction() as session:
        take(session, accounts[1], "quote_2", 4700)
    assert left(accounts[1]) == 0
    assert audit() == []
