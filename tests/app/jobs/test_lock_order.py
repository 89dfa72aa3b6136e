"""Every transaction locks in one order, so orders, cancels, settlements, expiries and top-ups never deadlock."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.admin import accounts as admin_accounts
from app.admin import money
from app.admin.top_ups import TopUp, add_funds
from app.assets.ingest import add_asset, new_asset
from app.assets.owner import OwnerIds
from app.audit_log.actor import Actor
from app.clock import now
from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.lease import succeed_finish
from app.dispatch.scheduler import run_round
from app.erasure.erase import start_erasure
from app.erasure.tables import ErasureKind
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.groups import jobs_of
from app.jobs.idempotency import OrderIdentity
from app.jobs.queue_tables import Share
from app.jobs.review import decide_review, hold_for_review
from app.jobs.states import FINAL, QuoteState
from app.jobs.submit import submit
from app.jobs.tables import Job, Quote
from app.lock_order import LOCK_ORDER
from app.moderation.outcomes import CheckStage, Decision, Finding, Outcome
from app.moderation.policy import moderation_policy
from app.moderation.refusal_tables import RefusalCount
from app.moderation.repeaters import allow_orders, count_refusal, list_stops
from app.roles import Role
from tests.ledger_simulation import Line, request
from workers.output_check import StoppedFilm

OPERATOR = Actor(person="somebody", via="test", roles=frozenset({str(Role.OPERATOR)}))

# Which steps of the order a statement takes. Inserts of new rows wait for nobody.
STEPS: list[tuple[str, str]] = [
    ("claims of a pool", r"pg_advisory_xact_lock\b.* claim:"),
    ("submissions of an account", r"pg_advisory_xact_lock\b.* (submit|quote):"),
    ("segments of an account", r"pg_(try_)?advisory_xact_lock\b.*[ ']segments:"),
    ("audit log", rf"pg_advisory_xact_lock\b.* {0x7472_6169}\b"),
    ("quote", r"UPDATE quotes|FROM quotes .*FOR UPDATE"),
    ("job", r"UPDATE jobs|FROM jobs .*FOR UPDATE"),
    ("shares", r"(UPDATE|INSERT INTO) shares|FROM shares .*FOR UPDATE"),
    ("lanes", r"INSERT INTO units|UPDATE units SET (state|class)"),
    ("inputs", r"UPDATE assets|FROM assets .*FOR UPDATE"),
    ("group", r"UPDATE job_groups"),
    ("reservation", r"UPDATE reservations"),
    ("free seconds", r"(UPDATE|INSERT INTO) free_uses"),
    ("promotions of an account", r"(UPDATE|INSERT INTO) promotion_uses"),
    ("budgets of promotions", r"(UPDATE|INSERT INTO) promotion_shards|FROM promotion_shards .*FOR UPDATE"),
    ("hold", r"UPDATE holds|FROM holds .*FOR (NO KEY )?UPDATE"),
    ("budgets", r"(UPDATE|INSERT INTO) budgets"),
    ("wallet", r"UPDATE wallets|FROM wallets .*FOR (NO KEY )?UPDATE"),
    ("refusal counts", r"(UPDATE|INSERT INTO|DELETE FROM) refusal_counts|FROM refusal_counts .*FOR UPDATE"),
    ("order stops", r"(UPDATE|INSERT INTO) order_stops|FROM order_stops .*FOR UPDATE"),
]


def steps_of(statement: str, parameters: Any) -> list[str]:
    """Return the steps of a statement, in the order in which they stand in it: a later one reads the one before."""
    values = parameters.values() if isinstance(parameters, dict) else ()
    line = f"{' '.join(statement.split())} | {' '.join(str(value) for value in values)}"
    places = [(place.start(), name) for name, pattern in STEPS if (place := re.search(pattern, line))]
    return [name for _, name in sorted(places)]


@contextmanager
def recorded(engine: Engine) -> Iterator[list[list[str]]]:
    """Record the steps of each transaction, each step once, in the order in which it was first taken."""
    transactions: list[list[str]] = [[]]

    def begin(_connection: Connection) -> None:
        transactions.append([])

    def statement(_connection: Connection, _cursor: object, sql: str, parameters: Any, *_: object) -> None:
        for step in steps_of(sql, parameters):
            if step not in transactions[-1]:
                transactions[-1].append(step)

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", statement)
    try:
        yield transactions
    finally:
        event.remove(engine, "begin", begin)
        event.remove(engine, "before_cursor_execute", statement)


@pytest.fixture
def line(engine: Engine, redis_url: str) -> Iterator[Line]:
    with Session(engine, expire_on_commit=False) as session:
        yield Line(session)


def add_picture(session: Session, account_id: str) -> str:
    """A picture of an account, without its file."""
    asset = new_asset(OwnerIds(account_id), filename="a.png")
    asset.state, asset.kind, asset.key = "ready", "picture", f"assets/{account_id}/a.png"
    return add_asset(session, asset).id


def hold(session: Session, job_id: str) -> str:
    """Have a job wait for a review. Returns the review's id."""
    finding = Finding(Outcome.REVIEW, "violence", 0.6, "violence", "1", "http")
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    return hold_for_review(session, job, finding, CheckStage.PROMPT)


def stop_orders(line: Line, account_id: str) -> str:
    """Refuse so many orders that further ones are stopped. Returns the stop's id."""
    before = moderation_policy().repeaters.stop_after - 1
    refusals = RefusalCount(account_id=account_id, scope="", test=False, day=now(line.session).date(), refusals=before)
    line.act(lambda: line.session.add(refusals))
    line.act(lambda: count_refusal(line.session, account_id, scope="", test=False))
    return line.act(lambda: list_stops(line.session, account_id=account_id, limit=1)[0].id)


def test_every_verb_locks_in_the_one_order(engine: Engine, line: Line) -> None:
    alice = line.open(membership="studio")
    account, session = alice.account_id, line.session
    film = {"shots": [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2}]}
    with recorded(engine) as transactions:
        # Longer than all free seconds of the month, so that what follows is charged.
        line.order(alice, shots=[{"prompt": "a", "seconds": 10}] * 8)
        quote = line.quote(alice, **film)
        quoted = line.order(alice, quote_id=quote.id, **film)
        line.quote(alice, **film)
        line.work()
        lease_job = line.order(alice, **film)
        lease = line.start()
        assert lease is not None
        line.make(lease)
        line.cancel(alice, lease_job.id)
        line.cancel(alice, line.order(alice, **film).id)
        picture = line.act(lambda: add_picture(session, account))
        line.cancel(alice, line.order(alice, seconds=2, first_frame=picture, retention={"inputs": 0}).id)
        for each in jobs_of(session, str(line.order(alice, n=2, **film).group_id)):
            line.cancel(alice, each.id)
        line.order(alice, service_tier="flex", expires_after=5, **film)
        project = line.act(lambda: admin_accounts.create_account_project(session, OPERATOR, account, "Films", None))
        line.order(replace(alice, project_id=project.id), **film)
        failing = line.start(["synthetic"])
        assert failing is not None
        line.fail(failing)
        line.quote(alice, seconds=2, n=2)
        line.wait(hours=1)
        line.start()
        line.sweep()
        for decision in (Decision.ALLOW, Decision.REFUSE):
            waits = line.act(lambda: hold(session, line.order(alice, **film).id))
            line.act(lambda each=waits, end=decision: decide_review(session, OPERATOR, each, end, reason="a test"))
        waits = line.act(lambda: hold(session, line.order(alice, **film).id))
        line.wait(hours=24)
        line.sweep("overdue_reviews")
        line.act(lambda: add_funds(session, OPERATOR, account, TopUp(5, "granted", "r")))
        line.act(lambda: money.correct_balance(session, OPERATOR, account, -5, reference="c", reason="a test"))
        line.act(lambda: money.refund_job(session, OPERATOR, account, quoted.id, 1, reference="b", reason="a test"))
        line.act(lambda: money.set_account_credit_limit(session, OPERATOR, account, 7))
        stop_id = stop_orders(line, account)
        line.act(lambda: allow_orders(session, OPERATOR, stop_id))
        line.act(lambda: admin_accounts.suspend_account(session, OPERATOR, account, "a test"))
    assert line.job(failing.job_id).state in FINAL
    for steps in transactions:
        assert steps == sorted(steps, key=LOCK_ORDER.index), steps
    seen = {step for steps in transactions for step in steps}
    # The shipped book has no promotion with a budget.
    assert seen == set(LOCK_ORDER) - {"budgets of promotions"}
    audit(line)


def test_the_start_of_an_erasure_locks_all_quotes_before_what_they_reserve(engine: Engine, line: Line) -> None:
    alice = line.open(membership="studio")
    quotes = [line.quote(alice, seconds=2, n=2), line.quote(alice, seconds=2)]
    steps: list[str] = []

    def statement(_connection: Connection, _cursor: object, sql: str, parameters: Any, *_: object) -> None:
        steps.extend(steps_of(sql, parameters))

    event.listen(engine, "before_cursor_execute", statement)
    try:
        line.act(lambda: start_erasure(line.session, OPERATOR, ErasureKind.ACCOUNT, alice.account_id))
    finally:
        event.remove(engine, "before_cursor_execute", statement)
    assert {"quote", "reservation", "free seconds"} <= set(steps)
    first_time = list(dict.fromkeys(steps))
    assert first_time == sorted(first_time, key=LOCK_ORDER.index), steps
    assert "quote" not in steps[steps.index("reservation") :], steps
    line.session.expire_all()
    assert {line.session.get_one(Quote, each.id).state for each in quotes} == {QuoteState.EXPIRED}
    line.check()


def audit(line: Line) -> None:
    """Check the books as other sessions have left them."""
    line.session.expire_all()
    line.check()


class Pause:
    """Let each of two transactions wait before its own statement until the other is there too, or is waiting."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._patterns: dict[int, str] = {}
        self._both = threading.Barrier(2)

    def before(self, pattern: str) -> None:
        """Pause this thread's transaction before the first statement that matches."""
        self._patterns[threading.get_ident()] = pattern

    def _statement(self, _connection: Connection, _cursor: object, sql: str, *_: object) -> None:
        pattern = self._patterns.get(threading.get_ident())
        if pattern is not None and re.search(pattern, " ".join(sql.split())):
            del self._patterns[threading.get_ident()]
            # The barrier breaks where the other one waits for a lock of ours already, and so cannot come here.
            with suppress(threading.BrokenBarrierError):
                self._both.wait(timeout=2)

    def __enter__(self) -> "Pause":
        event.listen(self._engine, "before_cursor_execute", self._statement)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._statement)


def run_together(engine: Engine, *acts: tuple[str, Callable[[Session], object]]) -> list[str]:
    """Run acts at once, each paused before the statement that its pattern names; return how each ended."""
    ends = ["hangs"] * len(acts)
    with Pause(engine) as pause:

        def run(number: int) -> None:
            pattern, act = acts[number]
            pause.before(pattern)
            ends[number] = outcome(engine, act)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    return ends


def outcome(engine: Engine, act: Callable[[Session], object]) -> str:
    """Do an act in a transaction of its own and return how it ended."""
    try:
        with transaction(engine) as session:
            act(session)
    except OperationalError as error:
        return "deadlock" if isinstance(error.orig, DeadlockDetected) else str(error.orig)
    except AppError as error:
        return error.code
    return "done"


def ordering(caller: Caller, **fields: Any) -> Callable[[Session], Job]:
    video_request = request(seconds=2, **fields)
    return lambda session: submit(session, caller, OrderIdentity(video_request))


def cancelling(caller: Caller, job_id: str) -> Callable[[Session], Job]:
    return lambda session: request_cancel(session, find_job(session, caller, job_id, lock=True))


# An order before it locks its shares, and an end before it locks what the order had reserved.
SHARES, COUNTERS = r"INSERT INTO shares", r"UPDATE reservations"


def test_an_order_and_a_cancel_of_one_account_do_not_deadlock(engine: Engine, line: Line) -> None:
    alice = line.open(membership="studio")
    job = line.order(alice, seconds=2)
    ends = run_together(engine, (SHARES, ordering(alice)), (COUNTERS, cancelling(alice, job.id)))
    assert ends == ["done", "done"]
    audit(line)


def test_an_order_and_a_settlement_of_one_account_do_not_deadlock(engine: Engine, line: Line) -> None:
    alice = line.open(membership="studio")
    line.order(alice, seconds=2)
    lease = line.start()
    assert lease is not None
    line.make(lease)
    finish = line.start()
    assert finish is not None
    film = line.film(finish)
    line.session.rollback()

    def settle(session: Session) -> None:
        succeed_finish(session, finish, film, meter={"gpu_seconds": "0"})

    assert run_together(engine, (SHARES, ordering(alice)), (COUNTERS, settle)) == ["done", "done"]
    audit(line)


def test_a_refusal_and_an_operator_who_allows_orders_again_do_not_deadlock(engine: Engine, line: Line) -> None:
    account = line.open().account_id
    stop_id = stop_orders(line, account)
    line.session.rollback()

    def refuse(session: Session) -> None:
        count_refusal(session, account, scope="", test=False)

    def allow(session: Session) -> None:
        allow_orders(session, OPERATOR, stop_id)

    acts = ((r"INSERT INTO order_stops", refuse), (r"FROM refusal_counts WHERE", allow))
    assert run_together(engine, *acts) == ["done", "done"]


def test_shares_of_one_account_are_locked_by_the_names_of_their_pools(engine: Engine, line: Line) -> None:
    alice = line.open()
    line.order(alice, seconds=2)
    line.session.query(Share).update({"weight": 7})
    line.session.commit()
    for _ in range(8):
        ends = together(engine, [ordering(alice)], [lambda _session: run_round()])
        assert "deadlock" not in ends


def test_a_film_that_goes_to_review_locks_its_shares_at_once(engine: Engine, line: Line) -> None:
    """Else its finish changes the share there, and then locks that of a pool whose name comes before."""
    line.order(line.open(), seconds=2)
    lease = line.start()
    assert lease is not None
    line.make(lease)
    finish = line.start(["finish"])
    assert finish is not None
    stopped = StoppedFilm(Finding(Outcome.REVIEW, "violence", 0.6, "violence", "1", "http"), None)
    statements: list[str] = []

    def statement(_connection: Connection, _cursor: object, sql: str, *_: object) -> None:
        statements.append(" ".join(sql.split()))

    event.listen(engine, "before_cursor_execute", statement)
    try:
        line.act(lambda: stopped.end(line.session, finish, meter=None))
    finally:
        event.remove(engine, "before_cursor_execute", statement)
    first = next(each for each in statements if re.search(r"(UPDATE|FROM) shares", each))
    assert first.endswith("ORDER BY shares.pool FOR UPDATE")


def together(engine: Engine, *threads_of_acts: list[Callable[[Session], object]]) -> list[str]:
    """Run each list of acts in a thread of its own; return how every act ended."""
    ends: list[str] = []

    def run(acts: list[Callable[[Session], object]]) -> None:
        for act in acts:
            ends.append(outcome(engine, act))

    threads = [threading.Thread(target=run, args=(acts,)) for acts in threads_of_acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    return ends


@pytest.mark.deep
def test_orders_and_cancels_of_an_account_with_free_seconds_do_not_deadlock(engine: Engine, line: Line) -> None:
    alice = line.open(membership="studio")
    jobs = [line.order(alice, seconds=2).id for _ in range(24)]
    orders = [ordering(alice) for _ in range(12)]
    cancels = [cancelling(alice, job_id) for job_id in jobs]
    ends = together(engine, orders, orders, cancels[:12], cancels[12:])
    assert ends == ["done"] * 48
    audit(line)


@pytest.mark.deep
def test_orders_that_expire_while_others_are_ordered_and_claimed_do_not_deadlock(
    engine: Engine, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """Three bursts of orders whose deadline passes at once, while workers claim and two schedulers sweep."""
    alice, test = line.open(membership="studio"), line.open("Test", test=True)
    shots = [{"prompt": f"shot {number}", "seconds": 1} for number in range(6)]
    fields = {"shots": shots, "expires_after": 1}

    def order(caller: Caller) -> Callable[[Session], Job]:
        return lambda session: submit(session, caller, OrderIdentity(request(**fields)))

    def claim_next(session: Session) -> None:
        # The deadline of every order has passed for the claim, so each chosen one expires.
        session.info["clock_offset"] = timedelta(seconds=2)
        claim(session, "worker-1", ["finish", "synthetic"])

    for _ in range(3):
        orders = [order(alice), order(test)] * 5
        sweeps: list[Callable[[Session], object]] = [lambda _session: run_round()] * 4
        ends = together(engine, orders, orders, [claim_next] * 10, [claim_next] * 10, sweeps, sweeps)
        assert set(ends) == {"done"}
    assert not [record for record in caplog.records if "failed" in record.message]
    line.wait(hours=1)
    line.sweep()
    assert {state for (state,) in line.session.query(Job.state)} == {"expired"}
    audit(line)


def test_a_claim_leaves_out_an_account_whose_cancel_is_frozen(engine: Engine, line: Line) -> None:
    alice, bob = line.open(), line.open("Bob")
    waiting = line.order(alice, seconds=2)
    line.order(alice, seconds=2)
    other = line.order(bob, seconds=2)
    line.session.rollback()
    with Session(engine) as frozen, frozen.begin():
        cancelling(alice, waiting.id)(frozen)
        frozen.flush()
        with transaction(engine) as session:
            lease = claim(session, "worker-1", ["synthetic"])
            assert lease is not None
            assert lease.job_id == other.id
        assert now(frozen)
        frozen.rollback()
