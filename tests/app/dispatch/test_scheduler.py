"""The scheduler repairs items one by one: no transaction locks two customers' rows, no row blocks another."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session

from app.clock import now
from app.db import transaction
from app.dispatch.lease import LeaseLost, renew_lease
from app.dispatch.retention import chores, clean
from app.dispatch.scheduler import run_round
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.tables import Job, Quote
from tests.ledger_simulation import Line


@pytest.fixture
def line(engine: Engine, redis_url: str) -> Iterator[Line]:
    """A service whose clock is two days ago, so that its rows are due for removal now."""
    with Session(engine, expire_on_commit=False) as session:
        session.info["clock_at"] = now(session) - timedelta(days=2)
        yield Line(session)


def transactions_of(line: Line, table: str) -> int:
    """Return how many transactions wrote the rows of a table last."""
    return int(line.session.execute(text(f"SELECT count(DISTINCT xmin::text) FROM {table}")).scalar_one())


@pytest.mark.usefixtures("engine", "redis_url")
def test_a_database_without_a_price_book_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Schedulers run before `cinemeter init` has published the first book."""
    assert sum(run_round().values()) == 0
    clean(chores())
    assert [entry.getMessage() for entry in caplog.records if entry.levelname != "INFO"] == []


def test_each_customer_is_repaired_in_a_transaction_of_its_own(line: Line) -> None:
    callers = [line.open(name, membership="studio") for name in ("Alice", "Bob", "Carol")]
    for caller in callers:
        line.order(caller, seconds=1, service_tier="flex")
        line.quote(caller, seconds=5)
    counts = run_round()
    assert (counts["past_deadlines"], counts["expired_quotes"]) == (3, 3)
    line.session.expire_all()
    assert {job.state for job in line.session.query(Job)} == {"expired"}
    assert {quote.state for quote in line.session.query(Quote)} == {"expired"}
    assert (transactions_of(line, "jobs"), transactions_of(line, "quotes")) == (3, 3)
    assert sum(run_round().values()) == 0
    line.check()


def test_one_row_that_cannot_be_repaired_blocks_no_other(line: Line) -> None:
    alice = line.open()
    first, second = (line.order(alice, seconds=1, service_tier="flex") for _ in range(2))
    pricing = dict(line.job(first.id).pricing)
    lost = update(Job).where(Job.id == first.id)
    line.act(lambda: line.session.execute(lost.values(pricing={**pricing, "book": "book_lost"})))
    assert run_round()["past_deadlines"] == 1
    assert (line.job(first.id).state, line.job(second.id).state) == ("queued", "expired")
    line.act(lambda: line.session.execute(lost.values(pricing=pricing)))
    assert run_round()["past_deadlines"] == 1
    line.check()


def test_a_heartbeat_and_a_cancel_at_once_lock_in_one_order(engine: Engine, line: Line) -> None:
    alice = line.open()
    line.session.info["clock_at"] += timedelta(days=2)
    job = line.order(alice, seconds=2)
    lease = line.start()
    assert lease is not None
    line.session.commit()
    ends: list[str] = []

    def renew() -> None:
        try:
            with transaction(engine) as session:
                renew_lease(session, lease, step=1, steps=8, percent=10)
            ends.append("renewed")
        except LeaseLost:
            ends.append("lost")

    thread = threading.Thread(target=renew)
    with transaction(engine) as session:
        locked = find_job(session, alice, job.id, lock=True)
        thread.start()
        # The heartbeat waits for the job without a lock on its take: the cancel voids the take at once.
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'UPDATE jobs'")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            while not watch.execute(waiting).scalar_one():
                assert thread.is_alive(), ends
        session.execute(text("SET LOCAL lock_timeout = '20s'"))
        request_cancel(session, locked)
    thread.join(timeout=60)
    assert ends == ["lost"]
    line.session.expire_all()
    assert line.job(job.id).state == "cancelled"
    line.check()
