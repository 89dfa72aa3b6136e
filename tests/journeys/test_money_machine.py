"""Any order of acts on the whole line, against an auditor in memory that keeps the same promises in a few lines.

The rules are what customers, workers, sweepers and pricing people do; time is virtual. After every step the promises
are recomputed from the rows (`audit`), and what each account has is what the auditor says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.claim import Claim
from app.errors import AppError
from app.jobs.queue_tables import Unit
from app.jobs.spec import Spec
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.prices.books import approve_book, draft_book, schedule_book, withdraw_book
from app.prices.find import newest_book
from app.wallet.balance import balance
from app.wallet.funds import refund, top_up
from tests.app.prices.papers import ALONE
from tests.line import POOLS, Line

FACTOR = {"standard": Fraction(1), "flex": Fraction(1, 2), "priority": Fraction(3, 2)}
# Within a lease, beyond it, beyond a quote, and near the deadline of flex.
LENGTHS: list[dict[str, float]] = [{"seconds": 20}, {"minutes": 2}, {"minutes": 16}, {"hours": 23}]
BOOK = """
format = 1
name = "{name}"
title = {{ en = "Trial", zh = "试用" }}
currency = "CNY"
tax_rate = "0.06"
based_on = "{base}"

[[rates]]
id = "list"
resolution = "720P"
per_second = "{rate}"

[[memberships]]
id = "free"
title = {{ en = "Free", zh = "免费" }}
factor = "1"
share_weight = 1
concurrency = 50
queue_limit = 50
retention_days = 7
free_seconds_per_month = 0
requests_per_minute = 60
jobs_per_minute = 60

[[service_tiers]]
id = "standard"
title = {{ en = "Standard", zh = "标准" }}
factor = "1"

[[service_tiers]]
id = "flex"
title = {{ en = "Flex", zh = "弹性" }}
factor = "0.5"
deadline_hours = 24

[[service_tiers]]
id = "priority"
title = {{ en = "Priority", zh = "优先" }}
factor = "1.5"
start_within_minutes = 10

[[examples]]
name = "one second"
at = 2026-06-01T12:00:00+08:00
membership = "free"
resolution = "720P"
seconds = 1
total = "{rate}"
"""


@dataclass
class Order:
    """What the auditor knows of a job: what it would cost a second, and what was made before a wish to cancel."""

    owner: int
    rate: Fraction  # per second, in minor units, service tier left out
    tier: str
    seconds: int
    start_by: datetime | None
    deadline: datetime | None
    started_at: datetime | None = None
    cancelled: bool = False
    made: int = 0  # seconds of segments that ended before the wish
    state: str = "queued"
    charged: int | None = None
    refunded: int = 0

    def price(self, seconds: int) -> int:
        late = self.start_by is not None and (self.started_at is None or self.started_at > self.start_by)
        factor = Fraction(1) if late else FACTOR[self.tier]
        exact = self.rate * seconds * factor
        return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


class Machine(RuleBasedStateMachine):
    """One small service; two customers; nothing is rendered, everything else is real."""

    engine: Engine

    @initialize()
    def start(self) -> None:
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.line = Line(self.session)
        self.customers = [self.line.open(name, membership="free", credit=0) for name in ("Alice", "Bob")]
        self.paid_in = [0, 0]
        self.lots: list[tuple[int, datetime, str]] = []
        self.rates: list[tuple[datetime, Fraction, str]] = [(now(self.session), Fraction(90), "")]
        self.orders: dict[str, Order] = {}
        self.quotes: dict[str, tuple[int, dict[str, Any], Fraction, datetime]] = {}
        self.takes: list[Claim] = []
        self.ended: list[Claim] = []
        self.number = 0
        for who in range(2):
            self.money_comes_in(who, 20_000, None)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            self.outer.rollback()
            self.connection.close()

    def tick(self, **length: float) -> datetime:
        self.number += 1
        return self.line.wait(**(length or {"seconds": 0.01}))

    def rate(self, at: datetime) -> Fraction:
        return max((each for each in self.rates if each[0] <= at), key=lambda each: each[0])[1]

    def attempt(self, act: Callable[[], Any]) -> tuple[Any, str | None]:
        """Return what an act gave, or the word of its refusal."""
        try:
            return act(), None
        except AppError as error:
            return None, error.code

    # Customers.

    @rule(who=st.integers(0, 1), amount=st.integers(1, 3_000), hours=st.none() | st.integers(1, 30))
    def money_comes_in(self, who: int, amount: int, hours: int | None) -> None:
        at = self.tick()
        expires_at = None if hours is None else at + timedelta(hours=hours)
        for _ in range(2):
            self.line.act(
                lambda: top_up(
                    self.session,
                    self.customers[who].account_id,
                    amount,
                    kind="granted" if hours else "purchased",
                    reference=f"top up {self.number}",
                    expires_at=expires_at,
                )
            )
        self.paid_in[who] += amount

    @rule(who=st.integers(0, 1), seconds=st.integers(1, 12), tier=st.sampled_from(sorted(FACTOR)))
    def a_quote_is_made(self, who: int, seconds: int, tier: str) -> None:
        at = self.tick()
        asked = {"seconds": seconds, "service_tier": tier, "seed": 7}
        quote, refused = self.attempt(lambda: self.line.quote(self.customers[who], **asked))
        if refused is not None:
            assert refused == "too_many_quotes"
            return
        assert quote.total == Order(who, self.rate(at), tier, seconds, None, None).price(seconds)
        self.quotes[quote.id] = (who, asked, self.rate(at), quote.expires_at)

    @precondition(lambda self: self.quotes)
    @rule(data=st.data())
    def a_quote_is_redeemed(self, data: st.DataObject) -> None:
        at = self.tick()
        quote_id = data.draw(st.sampled_from(list(self.quotes)))
        who, asked, rate, expires_at = self.quotes[quote_id]
        used = next((job for job in self.session.query(Job).filter_by(quote_id=quote_id)), None)
        made, code = self.submit(who, rate, asked | {"quote_id": quote_id})
        if used is not None:
            assert made is not None
            assert made == used.id
        elif expires_at <= at:
            assert code == "quote_expired"

    @rule(
        who=st.integers(0, 1),
        shots=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        tier=st.sampled_from(sorted(FACTOR)),
        twice=st.booleans(),
    )
    def a_job_is_ordered(self, who: int, shots: list[int], tier: str, twice: bool) -> None:
        at = self.tick()
        asked = {"shots": [{"prompt": "a", "seconds": each} for each in shots], "service_tier": tier}
        key = f"order {self.number}"
        made, _ = self.submit(who, self.rate(at), asked, key)
        if made is not None and twice:
            assert self.submit(who, self.rate(at), asked, key)[0] == made

    def submit(self, who: int, rate: Fraction, asked: dict[str, Any], key: str | None = None) -> tuple[Any, str | None]:
        before = balance(self.session, self.customers[who].account_id).spendable
        job, refused = self.attempt(lambda: self.line.order(self.customers[who], key=key, **asked))
        if refused is not None:
            assert refused in ("insufficient_funds", "quote_expired", "queue_full")
            return None, refused
        if job.id not in self.orders:
            seconds = int(Spec.model_validate(job.spec).seconds())
            made = Order(who, rate, asked["service_tier"], seconds, job.start_by, job.not_after)
            assert job.total == made.price(seconds) if made.start_by is None else job.total <= before
            assert job.total <= before
            self.orders[job.id] = made
        return job.id, None

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        self.tick()
        job_id = data.draw(st.sampled_from(list(self.orders)))
        order, job = self.orders[job_id], self.line.job(job_id)
        was_final, was_finishing = is_final(job.state), job.stage == "finishing" and not order.cancelled
        _, refused = self.attempt(lambda: self.line.cancel(self.customers[order.owner], job_id))
        assert (refused == "already_final") == was_final
        assert (refused == "too_late") == (was_finishing and not was_final)
        if refused is not None:
            return
        assert not was_final
        order.cancelled = True
        if not order.made:
            self.ends(job_id, "cancelled", 0)

    @precondition(lambda self: any(order.charged for order in self.orders.values()))
    @rule(data=st.data(), amount=st.integers(1, 600))
    def a_job_is_refunded(self, data: st.DataObject, amount: int) -> None:
        self.tick()
        job_id = data.draw(st.sampled_from([key for key, order in self.orders.items() if order.charged]))
        order = self.orders[job_id]
        name = f"refund {self.number}"

        def give() -> object:
            return refund(self.session, job_id, amount, reference=name, reason="flicker")

        _, code = self.attempt(lambda: self.line.act(give))
        fits = amount <= (order.charged or 0) - order.refunded
        assert (code is None) == fits
        if fits:
            order.refunded += amount

    # Workers.

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]))
    def a_worker_claims(self, worker: str) -> None:
        at = self.tick()
        taken = self.line.start(POOLS, worker)
        if taken is None:
            return
        order = self.orders[taken.job_id]
        assert order.state in ("queued", "in_progress"), "no work for an ended job"
        if order.state == "queued":
            order.state, order.started_at = "in_progress", at
        self.takes.append(taken)

    def pick(self, data: st.DataObject) -> tuple[Claim, bool]:
        """A take, and whether its worker still holds the lease, by what the rows say."""
        taken = data.draw(st.sampled_from(self.takes))
        self.takes.remove(taken)
        self.ended.append(taken)
        return taken, self.holds(taken)

    def holds(self, taken: Claim) -> bool:
        row = self.session.connection().exec_driver_sql(
            "SELECT state = 'running' AND lease_until > %s FROM takes WHERE id = %s", (now(self.session), taken.take_id)
        )
        return bool(row.scalar_one())

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_succeeds(self, data: st.DataObject) -> None:
        self.tick()
        self.succeed(*self.pick(data))

    @rule(times=st.integers(1, 5))
    def a_worker_works(self, times: int) -> None:
        """Claim and make, one take after the other: without it few jobs would ever come to their end."""
        for _ in range(times):
            before = len(self.takes)
            self.a_worker_claims("w0")
            if len(self.takes) == before:
                return
            taken = self.takes.pop()
            self.ended.append(taken)
            self.tick()
            self.succeed(taken, self.holds(taken))

    @rule(late=st.booleans())
    def the_queue_is_worked_off(self, late: bool) -> None:
        """Every open job comes to its end; takes that others still think they have are lost first, if it is late."""
        if late:
            self.tick(minutes=2)
            self.the_sweeper_comes()
        self.a_worker_works(100)

    def succeed(self, taken: Claim, held: bool) -> None:
        order = self.orders[taken.job_id]
        if taken.kind == "finish":
            assert self.line.lost(lambda: self.line.deliver(taken)) != held
            if held:
                seconds = order.made if order.cancelled else order.seconds
                self.ends(taken.job_id, "cancelled" if order.cancelled else "completed", order.price(seconds))
            return
        assert self.line.lost(lambda: self.line.make(taken)) != held
        if held:
            assert not order.cancelled, "a cancelled job's takes are void"
            order.made += self.session.get_one(Unit, taken.unit_id).frames // 16

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_fails_for_good(self, data: st.DataObject) -> None:
        self.tick()
        taken, held = self.pick(data)
        assert self.line.lost(lambda: self.line.fail(taken)) != held
        if held:
            self.ends(taken.job_id, "failed", 0)

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_is_handed_back(self, data: st.DataObject) -> None:
        self.tick()
        taken, held = self.pick(data)
        assert self.line.lost(lambda: self.line.release(taken)) != held

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def an_ended_take_is_reported_again(self, data: st.DataObject) -> None:
        self.tick()
        taken = data.draw(st.sampled_from(self.ended))
        again = self.line.deliver if taken.kind == "finish" else self.line.make
        assert self.line.lost(lambda: again(taken))

    # The house.

    @rule(length=st.sampled_from(LENGTHS))
    def time_passes(self, length: dict[str, float]) -> None:
        self.tick(**length)

    @rule()
    def the_sweeper_comes(self) -> None:
        at = self.tick()
        self.line.sweep()
        for job_id, order in self.orders.items():
            if order.state == "queued" and order.deadline is not None and order.deadline <= at:
                self.ends(job_id, "expired", 0)
            job = self.line.job(job_id)
            if job.state == "failed" and order.state != "failed":
                assert job.error_code == "worker_lost"
                self.ends(job_id, "failed", 0)

    @rule(cents=st.integers(50, 200), minutes=st.integers(1, 120), withdrawn=st.booleans())
    def a_book_is_published(self, cents: int, minutes: int, withdrawn: bool) -> None:
        at = self.tick()
        session, newest = self.session, newest_book(self.session)
        assert newest is not None
        assert newest.effective_at is not None
        text = BOOK.format(name=f"book-{self.number}", base=newest.book.name, rate=f"{cents // 100}.{cents % 100:02d}")
        stored = self.line.act(lambda: draft_book(session, ALONE, text))
        self.line.act(lambda: approve_book(session, ALONE, stored.id, content_hash=stored.content_hash))
        effective = max(at, newest.effective_at) + timedelta(minutes=minutes)
        self.line.act(lambda: schedule_book(session, ALONE, stored.id, effective))
        if withdrawn:
            self.line.act(lambda: withdraw_book(session, ALONE, stored.id, reason="a drill"))
        else:
            self.rates.append((effective, Fraction(cents), stored.id))

    # The auditor.

    def ends(self, job_id: str, state: str, charged: int) -> None:
        order = self.orders[job_id]
        assert order.charged is None, "a job ends once"
        order.state, order.charged = state, charged
        assert self.line.job(job_id).state == state
        row = self.line.receipt(job_id)
        assert (row.outcome, row.total) == (state, charged)
        assert row.total <= row.quoted

    @invariant()
    def every_promise_is_kept(self) -> None:
        if not hasattr(self, "number") or not self.number:
            return
        self.line.check()
        for job_id, order in self.orders.items():
            job = self.line.job(job_id)
            assert job.state == order.state
            assert is_final(job.state) == (order.charged is not None)
        for who, customer in enumerate(self.customers):
            mine = [order for order in self.orders.values() if order.owner == who]
            spent = sum((order.charged or 0) - order.refunded for order in mine)
            has = balance(self.session, customer.account_id)
            expired = self.expired(customer.account_id)
            assert has.posted == self.paid_in[who] - spent - expired
            open_jobs = [self.line.job(key) for key, order in self.orders.items() if order.charged is None]
            assert has.held == sum(job.total for job in open_jobs if job.account_id == customer.account_id)
            assert has.spendable >= 0, "nobody spends what they do not have"
        self.session.commit()

    def expired(self, account_id: str) -> int:
        """What credit was lost to time: booked, less what was granted anew, and what the sweeper has yet to book."""
        row = self.session.connection().exec_driver_sql(
            """
            SELECT (SELECT coalesce(sum(CASE kind WHEN 'expiry' THEN amount ELSE -amount END), 0) FROM transfers
                    WHERE account_id = %s AND kind IN ('expiry', 'regrant'))
                 + (SELECT coalesce(sum(remaining), 0) FROM credit_lots WHERE account_id = %s AND expires_at <= %s)
            """,
            (account_id, account_id, now(self.session)),
        )
        return int(row.scalar_one())


def run(engine: Engine, **options: Any) -> None:
    Machine.engine = engine
    run_state_machine_as_test(
        Machine, settings=settings(deadline=None, suppress_health_check=list(HealthCheck), **options)
    )


def test_any_order_of_acts_keeps_every_promise(shared_engine: Engine) -> None:
    # Without shrinking, so that a failure is told before the test's time is over; the deep test shrinks.
    told = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
    run(shared_engine, max_examples=10, stateful_step_count=40, derandomize=True, phases=told)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_any_order_of_many_acts_keeps_every_promise(shared_engine: Engine) -> None:
    run(shared_engine, max_examples=40, stateful_step_count=60)
