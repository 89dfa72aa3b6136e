"""One process stands still in the middle of a transaction, with whatever it has locked; the others go on.

What stands still here is a second connection. The database ends it by the role's time-outs, which are shortened.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.cli.migrate import set_time_outs
from app.clock import now
from app.db import forget_engines, get_engine, transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.leader import Leadership
from app.dispatch.lease import succeed_finish
from app.dispatch.scheduler import run_round
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.prices.seed import seed_book
from app.wallet.funds import top_up
from app.webhooks.health import lock_endpoints
from pricing.books import read_shipped
from tests.app.webhooks.factories import claim_due, open_account, open_endpoint, publish
from tests.faults.standstill import end_frozen_soon, eventually, frozen
from tests.ledger_simulation import Line, request


@pytest.fixture
def line_on(database_url: str, redis_url: str) -> Iterator[Callable[..., Line]]:
    """Open a service on a price book; its database ends what stands still, as every migrated one does."""
    with get_engine().begin() as connection:
        set_time_outs(connection)
    forget_engines()
    with Session(get_engine(), expire_on_commit=False) as session:
        session.info["clock_at"] = now(session)

        def start(book: str | None = None) -> Line:
            if book is not None:
                seed_book(session, book)
                session.commit()
            return Line(session)

        yield start


@pytest.fixture
def line(line_on: Callable[..., Line]) -> Line:
    return line_on()


def order(session: Session, caller: Caller, **fields: Any) -> Job:
    video_request = request(**fields)
    return submit(session, caller, OrderIdentity(video_request, fingerprint=video_request.model_dump_json()))


def claim_as(worker: str, *pools: str) -> Claim | None:
    with transaction() as session:
        return claim(session, worker, list(pools or ("finish", "synthetic")))


def account_of(lease: Claim | None) -> str:
    assert lease is not None
    with transaction() as session:
        return session.get_one(Job, lease.job_id).account_id


def start_finish(line: Line, caller: Caller) -> Claim:
    """Order a film, render it, and return the claim of its finish."""
    line.order(caller)
    segment = line.start(["synthetic"])
    assert segment is not None
    line.make(segment)
    finish = line.start(["finish"])
    assert finish is not None
    return finish


def test_a_frozen_order_stops_no_claim_of_others(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    line.order(alice)
    for _ in range(3):
        line.order(bob)
    with frozen(lambda session: order(session, alice)) as still:
        claims = [claim_as(f"worker-{number}") for number in range(3)]
        assert {account_of(each) for each in claims} == {bob.account_id}
        assert claim_as("worker-4") is None, "Alice's film cannot start yet"
        assert still.stands()
    line.check()


def test_a_frozen_cancel_stops_no_claim_of_others(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    first = line.order(alice)
    line.order(bob)
    with frozen(lambda session: find_job(session, alice, first.id, lock=True)) as still:
        assert account_of(claim_as("worker-1")) == bob.account_id
        assert still.stands()


def test_the_films_of_a_frozen_order_s_account_start_once_the_database_has_ended_it(line: Line) -> None:
    end_frozen_soon()
    alice = line.open("Alice")
    film = line.order(alice)
    with frozen(lambda session: order(session, alice)) as still:
        lease = eventually(lambda: claim_as("worker-1"))
        assert lease.job_id == film.id
        assert eventually(still.has_ended)
    line.check()
    assert line.session.query(Job).count() == 1, "the frozen order was rolled back"


def test_a_frozen_top_up_stops_no_settlement_of_others(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    # On a system that has made films before, the measured throughput is a row that all settlements share.
    line.order(bob)
    line.work()
    of_alice, of_bob = start_finish(line, alice), start_finish(line, bob)
    film_of_alice, film_of_bob = line.film(of_alice), line.film(of_bob)
    line.session.commit()
    end_frozen_soon()

    def settle_alice() -> str:
        with transaction() as session:
            return succeed_finish(session, of_alice, film_of_alice, meter={"gpu_seconds": "0"}).state

    with frozen(lambda session: top_up(session, alice.account_id, 100, kind="purchased", reference="frozen")) as still:
        with Session(get_engine()) as waiting:
            # Alice's own settlement waits for her wallet, with all the rows that it has locked before it.
            waiting.execute(text("SET LOCAL lock_timeout = '200ms'"))
            with pytest.raises(OperationalError), waiting.begin_nested():
                succeed_finish(waiting, of_alice, film_of_alice, meter={"gpu_seconds": "0"})
            with transaction() as session:
                succeed_finish(session, of_bob, film_of_bob, meter={"gpu_seconds": "0"})
        assert eventually(settle_alice) == "completed"
        assert eventually(still.has_ended)
    line.check()


def test_a_standby_leads_though_the_leader_is_frozen_inside_a_repair(line: Line) -> None:
    end_frozen_soon()
    leader, standby = Leadership("scheduler"), Leadership("scheduler")
    assert leader.acquire()
    assert not standby.acquire()
    with transaction() as session:
        session.execute(text("UPDATE leaders SET lease_until = now() - interval '1 second'"))
    with frozen(leader.verify) as still:
        assert eventually(standby.acquire)
        assert eventually(still.has_ended)


def test_repairs_leave_out_what_a_frozen_transaction_holds(line: Line) -> None:
    alice, bob = line.open("Alice", membership="enterprise"), line.open("Bob")
    for caller, count in ((alice, 10), (bob, 1)):
        for _ in range(count):
            job = line.order(caller, seconds=1)
            assert line.start(["synthetic"]) is not None
            line.cancel(caller, job.id)
    line.session.commit()
    with frozen(lambda session: order(session, alice)) as still:
        assert run_round()["unsettled_shares"] == 1, "Bob's take was repaired"
        # Ten waits of two seconds would be longer than the database lets the frozen transaction stand.
        assert still.stands()
    eventually(lambda: run_round()["unsettled_shares"])
    assert run_round()["unsettled_shares"] == 0
    line.check()


def test_a_frozen_courier_stops_no_other(line: Line) -> None:
    end_frozen_soon()
    caller = line.act(lambda: open_account(line.session))
    line.act(lambda: open_endpoint(line.session, caller))
    line.act(lambda: publish(line.session, caller))

    def claim_deliveries() -> int:
        with transaction() as session:
            return len(claim_due(session))

    with frozen(claim_due) as still:
        assert claim_deliveries() == 0, "one claim at a time, so that limits hold"
        assert still.stands(), "and it does not wait"
        assert eventually(claim_deliveries) == 1
        assert eventually(still.has_ended)


def test_a_frozen_endpoint_stops_no_delivery_of_others(line: Line) -> None:
    callers = [line.act(lambda: open_account(line.session)) for _ in range(2)]
    endpoints = [line.act(lambda each=each: open_endpoint(line.session, each)) for each in callers]
    for each in callers:
        line.act(lambda each=each: publish(line.session, each))
    with frozen(lambda session: lock_endpoints(session, [endpoints[0].id])) as still:
        with transaction() as session:
            claimed = {delivery.endpoint_id for delivery in claim_due(session)}
        assert claimed == {endpoints[1].id}
        assert still.stands()


def test_a_frozen_order_of_a_promotion_stops_no_order_cancel_or_film_of_others(line_on: Callable[..., Line]) -> None:
    line = line_on(budgeted_book())
    alice, bob, carol = line.open("Alice"), line.open("Bob"), line.open("Carol")
    finish = start_finish(line, bob)
    of_carol = line.order(carol)
    film = line.film(finish)
    line.session.commit()
    with frozen(lambda session: order(session, alice)) as still:
        for _ in range(3):
            with transaction() as session:
                assert order(session, bob).account_id == bob.account_id
        with transaction() as session:
            request_cancel(session, find_job(session, carol, of_carol.id, lock=True))
        with transaction() as session:
            assert succeed_finish(session, finish, film, meter={"gpu_seconds": "0"}).state == "completed"
        assert still.stands()
    line.session.expire_all()
    line.work()
    line.check()


def budgeted_book() -> str:
    """The shipped book, whose promotions have a budget for all customers together."""
    text_of_book = read_shipped()
    head = 'memberships = ["professional"]\n'
    assert head in text_of_book
    return text_of_book.replace(head, head + 'budget = "1000000"\n', 1)


def test_a_frozen_cancel_of_a_running_film_stops_no_heartbeat_of_others(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    jobs = [line.order(each) for each in (alice, bob)]
    leases = [line.start(["synthetic"]) for _ in jobs]
    assert None not in leases
    with frozen(lambda session: request_cancel(session, find_job(session, alice, jobs[0].id, lock=True))) as still:
        assert run_round()["lost_takes"] == 0
        of_bob = next(each for each in leases if each is not None and each.job_id == jobs[1].id)
        line.make(of_bob)
        finish = claim_as("worker-2", "finish")
        assert finish is not None
        assert finish.job_id == jobs[1].id
        assert still.stands()
