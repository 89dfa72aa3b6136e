"""State machine test of money: any sequence of actions, compared with a small model in memory.

The rules are the actions of customers, workers, the scheduler and pricing admins; time is virtual. After every step
`audit` recomputes the books from the rows, and each account's balance must be that of the model.
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
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.billing_periods import billing_month
from app.accounts.projects import create_project
from app.clock import now
from app.dispatch.claim import Claim
from app.errors import AppError
from app.jobs.groups import jobs_of
from app.jobs.queue_tables import Unit
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.prices.books import approve_book, draft_book, schedule_book, withdraw_book
from app.prices.find import newest_book
from app.prices.reservations import FLICKS_PER_SECOND
from app.prices.seed import seed_book
from app.prices.tables import FreeUse, PromotionUse
from app.wallet.balance import balance, set_credit_limit
from app.wallet.funds import correct, refund, top_up
from tests.app.prices.price_documents import ALONE
from tests.ledger_simulation import POOLS, Line

TIERS = {"standard": Fraction(1), "flex": Fraction(1, 2), "priority": Fraction(3, 2)}
# Alice pays the list price; Bob has a studio's factor, and free seconds each month.
MEMBERSHIPS, FACTORS, FREE_SECONDS = ("free", "studio"), (Fraction(1), Fraction(3, 5)), (0, 12)
# The launch promotion is 25 % off for both, up to a cap per account and a total budget (fen).
OFFER, CAP, BUDGET = Fraction(1, 4), 300, 500
# Monthly budget of the only project, Alice's (fen).
PROJECT_MONTH = 2_500
# Within a lease, beyond it, beyond a quote's validity, and close to the deadline of flex.
LENGTHS: list[dict[str, float]] = [{"seconds": 20}, {"minutes": 2}, {"minutes": 16}, {"hours": 23}]
BOOK = """
format = 1
name = "{name}"
title = {{ en = "Trial", zh = "试用" }}
currency = "CNY"
tax_rate = "0.06"
{base}

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

[[memberships]]
id = "studio"
title = {{ en = "Studio", zh = "工作室" }}
factor = "0.6"
share_weight = 1
concurrency = 50
queue_limit = 50
retention_days = 7
free_seconds_per_month = 12
requests_per_minute = 60
jobs_per_minute = 60

[[promotions]]
id = "launch"
title = {{ en = "Launch offer", zh = "限时优惠" }}
factor = "0.75"
priority = 10
starts_at = 2026-07-01T00:00:00+08:00
cap_per_account = "3.00"
budget = "5.00"

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


def half_up(exact: Fraction) -> int:
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


@dataclass
class Promised:
    """The frozen inputs of a price, and its reservations of free seconds and promotion budget."""

    owner: int
    rate: Fraction  # of one second, in fen
    tier: str
    seconds: int
    free_left: int  # free seconds that were left when it was priced
    offer_left: int  # and discount of the launch offer, in fen
    month: str  # billing month of the price
    free: int = 0  # reserved, or used once settled
    offer: int = 0

    def price(self, seconds: int, *, late: bool = False) -> tuple[int, int, int]:
        """Return the total, free seconds and promotion discount of some delivered seconds, in fen."""
        free = min(self.free_left, seconds)
        parts = [self.rate * seconds, -self.rate * free]
        parts.append(sum(parts) * (FACTORS[self.owner] - 1))
        parts.append(-min(sum(parts) * OFFER, Fraction(self.offer_left)))
        parts.append(sum(parts) * (0 if late else TIERS[self.tier] - 1))
        total = half_up(sum(parts, Fraction(0)))
        shares = [part.numerator // part.denominator for part in parts]
        by_loss = sorted(range(len(parts)), key=lambda which: (shares[which] - parts[which], which))
        for which in by_loss[: total - sum(shares)]:
            shares[which] += 1
        return total, free, -shares[3]


@dataclass
class Order:
    """A job in the model: its frozen price, and the seconds finished before a cancellation."""

    promised: Promised
    project: bool
    month: str  # billing month of acceptance
    total: int
    start_by: datetime | None
    deadline: datetime | None
    started_at: datetime | None = None
    cancelled: bool = False
    made: int = 0  # seconds of segments that ended before a cancellation
    state: str = "queued"
    charged: int | None = None
    refunded: int = 0

    def late(self) -> bool:
        return self.start_by is not None and (self.started_at is None or self.started_at > self.start_by)


class Machine(RuleBasedStateMachine):
    """A small service with two customers; nothing is rendered, everything else is real."""

    engine: Engine

    @initialize()
    def start(self) -> None:
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        seed_book(self.session, BOOK.format(name="first", base="", rate="0.90"))
        self.line = Line(self.session)
        self.customers = [
            self.line.open(name, membership=membership, credit=0)
            for name, membership in zip(("Alice", "Bob"), MEMBERSHIPS, strict=True)
        ]
        self.project = self.line.act(
            lambda: create_project(self.session, self.customers[0].account_id, "Trailer", budget_month=PROJECT_MONTH)
        ).id
        self.paid_in = [0, 0]
        self.rates: list[tuple[datetime, Fraction]] = [(now(self.session), Fraction(90))]
        self.orders: dict[str, Order] = {}
        self.quotes: dict[str, tuple[Promised, dict[str, Any], datetime]] = {}
        self.promised: list[Promised] = []  # all that are reserved or used
        self.takes: list[Claim] = []
        self.ended: list[Claim] = []
        self.number = 0
        for who in range(2):
            self.money_comes_in(who, 20_000, None)
            # Work from the first step on: a quote, a storyboard, and a flex film.
            self.a_quote_is_made(who, 5, "priority")
            self.a_job_is_ordered(who, [2, 3], "standard", True, False)
            self.a_job_is_ordered(who, [4], "flex", False, False)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            self.outer.rollback()
            self.connection.close()

    def tick(self, **length: float) -> datetime:
        self.number += 1
        return self.line.wait(**(length or {"seconds": 0.01}))

    def promise(self, who: int, at: datetime, seconds: int, tier: str) -> Promised:
        """Return the frozen inputs of a price at a time: the book in force, and what is left of shared budgets."""
        rate = max((each for each in self.rates if each[0] <= at), key=lambda each: each[0])[1]
        month = billing_month("Asia/Shanghai", at)
        mine = [each for each in self.promised if each.owner == who]
        free = FREE_SECONDS[who] - sum(each.free for each in mine if each.month == month)
        offer = min(CAP - sum(each.offer for each in mine), BUDGET - sum(each.offer for each in self.promised))
        promised = Promised(who, rate, tier, seconds, free, offer, month)
        _, promised.free, promised.offer = promised.price(seconds)
        return promised

    def forget_expired_quotes(self, at: datetime, *owners: int) -> None:
        for quote_id, (promised, _, expires_at) in self.quotes.items():
            open_still = not any(job.quote_id == quote_id for job in self.session.query(Job))
            if promised.owner in owners and expires_at <= at and open_still:
                promised.free = promised.offer = 0

    def attempt(self, act: Callable[[], Any]) -> tuple[Any, str | None]:
        """Return an action's result, or the code of its error."""
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

    @rule(who=st.integers(0, 1), amount=st.integers(-900, 900).filter(bool))
    def a_correction_is_booked(self, who: int, amount: int) -> None:
        self.tick()
        account_id = self.customers[who].account_id
        name = f"correction {self.number}"
        self.line.act(lambda: correct(self.session, account_id, amount, reference=name, reason="a slip"))
        self.paid_in[who] += amount

    @rule(who=st.integers(0, 1), limit=st.sampled_from([0, 500, 2_000]))
    def a_credit_limit_is_set(self, who: int, limit: int) -> None:
        """It may be below the open holds: it applies to new ones only."""
        self.tick()
        self.line.act(lambda: set_credit_limit(self.session, self.customers[who].account_id, limit))

    @rule(who=st.integers(0, 1), seconds=st.integers(1, 12), tier=st.sampled_from(sorted(TIERS)))
    def a_quote_is_made(self, who: int, seconds: int, tier: str) -> None:
        at = self.tick()
        # The scheduler does this each second: reservations of expired quotes are released.
        self.line.sweep("expired_quotes")
        self.forget_expired_quotes(at, 0, 1)
        body = {"seconds": seconds, "service_tier": tier, "seed": 7}
        quote, refused = self.attempt(lambda: self.line.quote(self.customers[who], **body))
        if refused is not None:
            assert refused == "too_many_quotes"
            return
        promised = self.promise(who, at, seconds, tier)
        assert quote.total == promised.price(seconds)[0]
        assert (quote.body["start_by"] is None) == (tier != "priority")
        self.promised.append(promised)
        self.quotes[quote.id] = (promised, body, quote.expires_at)

    @precondition(lambda self: self.quotes)
    @rule(data=st.data())
    def a_quote_is_redeemed(self, data: st.DataObject) -> None:
        at = self.tick()
        quote_id = data.draw(st.sampled_from(list(self.quotes)))
        promised, body, expires_at = self.quotes[quote_id]
        used = next((job for job in self.session.query(Job).filter_by(quote_id=quote_id)), None)
        job_id, code = self.submit(promised, at, body | {"quote_id": quote_id})
        if used is not None:
            assert job_id is not None
            assert job_id == used.id
        elif expires_at <= at:
            assert code == "quote_expired"

    @rule(
        who=st.integers(0, 1),
        shots=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        tier=st.sampled_from(sorted(TIERS)),
        for_project=st.booleans(),
        twice=st.booleans(),
    )
    def a_job_is_ordered(self, who: int, shots: list[int], tier: str, for_project: bool, twice: bool) -> None:
        at = self.tick()
        body: dict[str, Any] = {"shots": [{"prompt": "a", "seconds": each} for each in shots], "service_tier": tier}
        if for_project and who == 0:
            body["project"] = self.project
        key, promised = f"order {self.number}", self.promise(who, at, sum(shots), tier)
        job_id, _ = self.submit(promised, at, body, key)
        if job_id is not None:
            self.promised.append(promised)
        if job_id is not None and twice:
            assert self.submit(promised, at, body, key)[0] == job_id

    @rule(
        who=st.integers(0, 1),
        seconds=st.integers(1, 5),
        n=st.integers(2, 3),
        tier=st.sampled_from(sorted(TIERS)),
        is_quoted=st.booleans(),
    )
    def several_films_are_ordered(self, who: int, seconds: int, n: int, tier: str, is_quoted: bool) -> None:
        """All of them or none; each is priced with what the films before it have left."""
        at = self.tick()
        self.line.sweep("expired_quotes")
        self.forget_expired_quotes(at, 0, 1)
        caller = self.customers[who]
        body: dict[str, Any] = {"seconds": seconds, "service_tier": tier, "n": n, "seed": 7}
        if who == 0 and not is_quoted:
            body["project"] = self.project
        before, month = balance(self.session, caller.account_id).available, billing_month("Asia/Shanghai", at)
        left = self.project_left(month)
        if is_quoted:
            quote, refused = self.attempt(lambda: self.line.quote(caller, **body))
            if refused is not None:
                assert refused == "too_many_quotes"
                return
            body["quote_id"] = quote.id
        promises = []
        for _ in range(n):
            promises.append(self.promise(who, at, seconds, tier))
            self.promised.append(promises[-1])
        total = sum(each.price(seconds)[0] for each in promises)
        job, refused = self.attempt(lambda: self.line.order(caller, key=f"order {self.number}", **body))
        if refused is None:
            assert total <= before, "nobody spends what they do not have"
            assert "project" not in body or total <= left, "no budget is overshot"
            jobs = jobs_of(self.session, job.group_id)
            assert [each.total for each in jobs] == [each.price(seconds)[0] for each in promises]
            for each, promised in zip(jobs, promises, strict=True):
                order = Order(promised, "project" in body, month, each.total, each.start_by, each.not_after)
                self.orders[each.id] = order
            return
        assert refused in ("insufficient_funds", "budget_exceeded", "queue_full")
        assert refused != "insufficient_funds" or total > before
        assert refused != "budget_exceeded" or total > left
        if is_quoted:
            # What the quote had set aside comes back when it expires.
            self.tick(minutes=16)
            self.the_scheduler_runs()
        self.promised = [each for each in self.promised if all(each is not promised for promised in promises)]

    def project_left(self, month: str) -> int:
        return PROJECT_MONTH - sum(
            (each.total if each.charged is None else each.charged - each.refunded)
            for each in self.orders.values()
            if each.project and each.month == month
        )

    def submit(
        self, promised: Promised, at: datetime, body: dict[str, Any], key: str | None = None
    ) -> tuple[Any, str | None]:
        caller, month = self.customers[promised.owner], billing_month("Asia/Shanghai", at)
        before, total = balance(self.session, caller.account_id).available, promised.price(promised.seconds)[0]
        left = self.project_left(month)
        job, refused = self.attempt(lambda: self.line.order(caller, key=key, **body))
        if refused is not None:
            assert refused in ("insufficient_funds", "budget_exceeded", "quote_expired", "queue_full")
            assert refused != "insufficient_funds" or total > before
            assert refused != "budget_exceeded" or total > left
            return None, refused
        if job.id not in self.orders:
            assert total <= before, "nobody spends what they do not have"
            assert "project" not in body or total <= left, "no budget is overshot"
            assert job.total == total
            self.orders[job.id] = Order(promised, "project" in body, month, total, job.start_by, job.not_after)
        return job.id, None

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        self.tick()
        job_id = data.draw(st.sampled_from(list(self.orders)))
        order, job = self.orders[job_id], self.line.job(job_id)
        was_final, was_finishing = is_final(job.state), job.stage == "finishing" and not order.cancelled
        _, refused = self.attempt(lambda: self.line.cancel(self.customers[order.promised.owner], job_id))
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
        claim = self.line.start(POOLS, worker)
        for job_id, waiting in self.orders.items():
            # A claim that meets a job past its deadline expires it at once; the others wait for the scheduler.
            is_late = waiting.state == "queued" and waiting.deadline is not None and waiting.deadline <= at
            if is_late and self.line.job(job_id).state == "expired":
                self.ends(job_id, "expired", 0)
        if claim is None:
            return
        order = self.orders[claim.job_id]
        assert order.state in ("queued", "in_progress"), "no work for an ended job"
        if order.state == "queued":
            order.state, order.started_at = "in_progress", at
        self.takes.append(claim)

    def pick(self, data: st.DataObject) -> tuple[Claim, bool]:
        """Return a take, and whether its worker still holds the lease according to the database."""
        claim = data.draw(st.sampled_from(self.takes))
        self.takes.remove(claim)
        self.ended.append(claim)
        return claim, self.holds(claim)

    def holds(self, claim: Claim) -> bool:
        row = self.session.connection().exec_driver_sql(
            "SELECT state = 'running' AND lease_until > %s FROM takes WHERE id = %s", (now(self.session), claim.take_id)
        )
        return bool(row.scalar_one())

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_succeeds(self, data: st.DataObject) -> None:
        self.tick()
        self.succeed(*self.pick(data))

    @rule(times=st.integers(1, 5))
    def a_worker_works(self, times: int) -> None:
        """Claim and finish takes one after the other: without this rule few jobs would ever end."""
        for _ in range(times):
            before = len(self.takes)
            self.a_worker_claims("w0")
            if len(self.takes) == before:
                return
            claim = self.takes.pop()
            self.ended.append(claim)
            self.tick()
            self.succeed(claim, self.holds(claim))

    @rule(late=st.booleans())
    def the_queue_is_worked_off(self, late: bool) -> None:
        """End every open job; if `late`, takes that other workers still hold are lost first."""
        if late:
            self.tick(minutes=2)
            self.the_scheduler_runs()
        self.a_worker_works(100)

    def succeed(self, claim: Claim, has_lease: bool) -> None:
        order = self.orders[claim.job_id]
        if claim.kind == "finish":
            assert self.line.lost(lambda: self.line.deliver(claim)) != has_lease
            if has_lease:
                seconds = order.made if order.cancelled else order.promised.seconds
                self.ends(claim.job_id, "cancelled" if order.cancelled else "completed", seconds)
            return
        assert self.line.lost(lambda: self.line.make(claim)) != has_lease
        if has_lease:
            assert not order.cancelled, "a cancelled job's takes are void"
            order.made += self.session.get_one(Unit, claim.unit_id).frames // 16

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_fails_for_good(self, data: st.DataObject) -> None:
        self.tick()
        claim, has_lease = self.pick(data)
        assert self.line.lost(lambda: self.line.fail(claim)) != has_lease
        if has_lease:
            self.ends(claim.job_id, "failed", 0)

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_take_is_handed_back(self, data: st.DataObject) -> None:
        self.tick()
        claim, has_lease = self.pick(data)
        assert self.line.lost(lambda: self.line.release(claim)) != has_lease

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def an_ended_take_is_reported_again(self, data: st.DataObject) -> None:
        self.tick()
        claim = data.draw(st.sampled_from(self.ended))
        again = self.line.deliver if claim.kind == "finish" else self.line.make
        assert self.line.lost(lambda: again(claim))

    @precondition(lambda self: self.takes)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        """Its lease expires and the scheduler repairs its job; it may still report late."""
        self.pick(data)
        self.tick(minutes=2)
        self.the_scheduler_runs()

    # Scheduler and pricing admins.

    @rule(length=st.sampled_from(LENGTHS))
    def time_passes(self, length: dict[str, float]) -> None:
        self.tick(**length)

    @rule()
    def the_scheduler_runs(self) -> None:
        at = self.tick()
        self.line.sweep()
        self.forget_expired_quotes(at, 0, 1)
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
        text = BOOK.format(
            name=f"book-{self.number}",
            base=f'based_on = "{newest.book.name}"',
            rate=f"{cents // 100}.{cents % 100:02d}",
        )
        stored = self.line.act(lambda: draft_book(session, ALONE, text))
        self.line.act(lambda: approve_book(session, ALONE, stored.id, content_hash=stored.content_hash))
        effective = max(at, newest.effective_at) + timedelta(minutes=minutes)
        self.line.act(lambda: schedule_book(session, ALONE, stored.id, effective))
        if withdrawn:
            self.line.act(lambda: withdraw_book(session, ALONE, stored.id, reason="a drill"))
        else:
            self.rates.append((effective, Fraction(cents)))

    # The model.

    def ends(self, job_id: str, state: str, seconds: int) -> None:
        order, promised = self.orders[job_id], self.orders[job_id].promised
        assert order.charged is None, "a job ends once"
        charged, free, offer = promised.price(seconds, late=order.late())
        # Never above the quote; unused reservations are released.
        charged = min(charged, order.total)
        promised.free, promised.offer = min(free, promised.free), min(offer, promised.offer)
        order.state, order.charged = state, charged
        assert self.line.job(job_id).state == state
        row = self.line.receipt(job_id)
        assert (row.outcome, row.total, row.quoted) == (state, charged, order.total)

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
            mine = [order for order in self.orders.values() if order.promised.owner == who]
            spent = sum((order.charged or 0) - order.refunded for order in mine)
            has = balance(self.session, customer.account_id)
            assert has.posted == self.paid_in[who] - spent - self.expired(customer.account_id)
            assert has.held == sum(order.total for order in mine if order.charged is None)
        # Shared budgets are reserved for exactly the open promises.
        counted = self.session.execute(select(PromotionUse.account_id, PromotionUse.reserved + PromotionUse.spent))
        offers = {account_id: used for account_id, used in counted if used}
        for who, customer in enumerate(self.customers):
            assert offers.get(customer.account_id, 0) == sum(each.offer for each in self.promised if who == each.owner)
        assert sum(offers.values()) <= BUDGET
        free = self.session.scalars(select(FreeUse.reserved + FreeUse.spent)).all()
        assert sum(free) == sum(each.free for each in self.promised) * FLICKS_PER_SECOND
        assert all(used <= FREE_SECONDS[1] * FLICKS_PER_SECOND for used in free)
        self.session.commit()

    def expired(self, account_id: str) -> int:
        """Return the expired credit: booked expiries less regrants, plus what the scheduler has not booked yet."""
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


@pytest.mark.timeout(600)
def test_any_sequence_of_actions_keeps_the_books_right(shared_engine: Engine) -> None:
    # Without shrinking, so that a failure is reported before the test's timeout; the deep test shrinks.
    phases = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
    run(shared_engine, max_examples=6, stateful_step_count=40, derandomize=True, phases=phases)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_any_long_sequence_of_actions_keeps_the_books_right(shared_engine: Engine) -> None:
    run(shared_engine, max_examples=100, stateful_step_count=60)
