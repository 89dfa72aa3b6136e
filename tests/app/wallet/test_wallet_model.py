"""Any sequence of actions on a wallet, against a model in memory that keeps the same books in a few lines of Python."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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

from app.accounts.accounts import create_account
from app.clock import now
from app.errors import AppError
from app.wallet.audit import audit_wallet
from app.wallet.balance import balance, open_wallet, set_credit_limit
from app.wallet.funds import correct, refund, top_up
from app.wallet.hold import HoldResolved, capture, hold, release
from app.wallet.lots import REGRANT_LIFE, expire_lots

AMOUNTS = st.integers(1, 500)


@dataclass
class Lot:
    """Credit of the model: what is left of it, what it is, and when it ends."""

    left: int
    granted: bool
    expires_at: datetime | None

    def live(self, at: datetime) -> bool:
        return self.expires_at is None or self.expires_at > at


@dataclass
class Books:
    """The model: lots in the order they came, what is owed, and open holds with what each took from which lot."""

    lots: list[Lot] = field(default_factory=list)
    debt: int = 0
    limit: int = 0
    open: dict[str, tuple[int, list[tuple[Lot, int]]]] = field(default_factory=dict)
    resolved: dict[str, tuple[str, int]] = field(default_factory=dict)
    refunded: dict[str, int] = field(default_factory=dict)
    charged: dict[str, list[tuple[Lot | None, int]]] = field(default_factory=dict)  # None: the credit limit
    granted_in_debts: int = 0  # what granted credit paid of debts, and no refund gave back

    def spending(self, at: datetime) -> list[Lot]:
        far = datetime.max.replace(tzinfo=at.tzinfo)
        live = [lot for lot in self.lots if lot.left and lot.live(at)]
        return sorted(live, key=lambda lot: (lot.expires_at or far, not lot.granted, self.lots.index(lot)))

    def take(self, amount: int, at: datetime) -> list[tuple[Lot, int]]:
        parts = []
        for lot in self.spending(at):
            part = min(lot.left, amount)
            if part:
                lot.left -= part
                amount -= part
                parts.append((lot, part))
        return parts

    def spendable(self, at: datetime) -> int:
        unbacked = sum(amount - sum(part for _, part in slices) for amount, slices in self.open.values())
        return sum(lot.left for lot in self.lots if lot.live(at)) - self.debt - unbacked + self.limit

    def come_in(self, lot: Lot, at: datetime) -> None:
        self.lots.append(lot)
        self.pay(at)

    def pay(self, at: datetime) -> None:
        for lot, part in self.take(self.debt, at):
            self.debt -= part
            self.granted_in_debts += part if lot.granted else 0

    def refund(self, job: str, amount: int, at: datetime) -> None:
        """Give back from the end of what was charged, as if that much less had been captured."""
        anew = []
        while amount:
            lot, size = self.charged[job].pop()
            part = min(size, amount)
            amount -= part
            if size > part:
                self.charged[job].append((lot, size - part))
            if lot is None:
                owed = min(part, self.debt)
                self.debt -= owed
                granted = min(part - owed, self.granted_in_debts)
                self.granted_in_debts -= granted
                anew += [Lot(part - owed - granted, False, None), Lot(granted, True, None)]
            elif lot.live(at):
                lot.left += part
            else:
                anew.append(Lot(part, lot.granted, at + REGRANT_LIFE))
        self.lots += [lot for lot in anew if lot.left]
        self.pay(at)

    def resolve(self, job: str, spent: int, at: datetime, *, ours: bool) -> None:
        _, slices = self.open.pop(job)
        anew = []
        charged = self.charged.setdefault(job, [])
        for lot, part in slices:
            used = min(part, spent)
            spent -= used
            charged.append((lot, used))
            if lot.live(at):
                lot.left += part - used
            elif ours and part > used:
                anew.append(Lot(part - used, lot.granted, at + REGRANT_LIFE))
        charged.append((None, spent))
        self.debt += spent
        for lot in anew:
            self.lots.append(lot)
        self.pay(at)


class Machine(RuleBasedStateMachine):
    """Actions in any order; after each the audit is clean and the wallet says what the model says."""

    engine: Engine

    @initialize()
    def start(self) -> None:
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.session.info["clock_offset"] = timedelta(0)
        self.account = create_account(self.session, "Studio Wu").id
        open_wallet(self.session, self.account)
        self.books = Books()
        self.number = 0
        self.at = now(self.session)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            self.outer.rollback()
            self.connection.close()

    def tick(self, hours: float = 0.001) -> str:
        """Let time pass, so that no two acts share a moment, and return a fresh name."""
        self.session.commit()
        self.session.info["clock_offset"] += timedelta(hours=hours)
        self.at = now(self.session)
        self.number += 1
        return f"n{self.number}"

    def attempt(self, act: Callable[[], object]) -> AppError | None:
        """Run an action in a savepoint; return its error code."""
        try:
            with self.session.begin_nested():
                act()
        except AppError as error:
            return error
        return None

    @rule(amount=AMOUNTS, granted=st.booleans(), hours=st.none() | st.integers(1, 60))
    def money_comes_in(self, amount: int, granted: bool, hours: int | None) -> None:
        name = self.tick()
        expires_at = None if hours is None else self.at + timedelta(hours=hours)
        kind = "granted" if granted else "purchased"
        for _ in range(2):
            top_up(self.session, self.account, amount, kind=kind, reference=name, expires_at=expires_at)
        self.books.come_in(Lot(amount, granted, expires_at), self.at)

    @rule(amount=AMOUNTS | st.just(0))
    def a_job_is_accepted(self, amount: int) -> None:
        job = self.tick()
        # What costs nothing fits also where a correction or a lowered limit left less than nothing.
        fits = amount == 0 or amount <= self.books.spendable(self.at)
        refused = self.attempt(lambda: hold(self.session, account_id=self.account, job_id=job, amount=amount))
        assert (refused is None) == fits
        if refused is None:
            self.books.open[job] = (amount, self.books.take(amount, self.at))
        else:
            assert refused.code == "insufficient_funds"

    @precondition(lambda self: self.books.open)
    @rule(data=st.data(), ours=st.booleans())
    def a_job_ends(self, data: st.DataObject, ours: bool) -> None:
        self.tick()
        job = data.draw(st.sampled_from(sorted(self.books.open)))
        held_minor = self.books.open[job][0]
        spent = data.draw(st.none() | st.integers(0, held_minor))
        if spent is None:
            release(self.session, job, ours=ours)
        else:
            capture(self.session, job, spent, ours=ours)
        self.books.resolve(job, spent or 0, self.at, ours=ours)
        self.books.resolved[job] = ("released" if spent is None else "captured", spent or 0)

    @precondition(lambda self: self.books.resolved)
    @rule(data=st.data(), again=st.booleans())
    def a_resolution_is_repeated(self, data: st.DataObject, again: bool) -> None:
        self.tick()
        job = data.draw(st.sampled_from(sorted(self.books.resolved)))
        refused = self.attempt(lambda: capture(self.session, job, 0) if again else release(self.session, job))
        assert isinstance(refused, HoldResolved)
        assert refused.state == self.books.resolved[job][0]

    @precondition(lambda self: self.books.resolved)
    @rule(data=st.data(), amount=AMOUNTS)
    def a_job_is_refunded(self, data: st.DataObject, amount: int) -> None:
        name = self.tick()
        job = data.draw(st.sampled_from(sorted(self.books.resolved)))
        left = self.books.resolved[job][1] - self.books.refunded.get(job, 0)
        refused = self.attempt(lambda: refund(self.session, job, amount, reference=name, reason="flicker"))
        assert (refused is None) == (amount <= left)
        if refused is not None:
            assert refused.code == "conflict"
            return
        self.books.refunded[job] = self.books.refunded.get(job, 0) + amount
        self.books.refund(job, amount, self.at)

    @rule(amount=AMOUNTS, gives=st.booleans())
    def a_correction_is_booked(self, amount: int, gives: bool) -> None:
        name = self.tick()
        correct(self.session, self.account, amount if gives else -amount, reference=name, reason="drill")
        if gives:
            self.books.come_in(Lot(amount, False, None), self.at)
        else:
            self.books.debt += amount - sum(part for _, part in self.books.take(amount, self.at))

    @rule(limit=st.integers(0, 600))
    def the_credit_limit_moves(self, limit: int) -> None:
        self.tick()
        set_credit_limit(self.session, self.account, limit)
        self.books.limit = limit

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.tick(hours)

    @rule()
    def the_sweeper_comes(self) -> None:
        self.tick()
        expire_lots(self.session, self.account)

    @invariant()
    def the_wallet_says_what_the_model_says(self) -> None:
        if not hasattr(self, "books"):
            return
        has, books = balance(self.session, self.account), self.books
        live = [lot for lot in books.lots if lot.live(self.at)]
        assert has.held == sum(amount for amount, _ in books.open.values())
        assert has.available == books.spendable(self.at)
        assert has.granted == sum(lot.left for lot in live if lot.granted)
        assert has.purchased == sum(lot.left for lot in live if not lot.granted)

    @invariant()
    def the_audit_is_clean(self) -> None:
        if hasattr(self, "books"):
            assert audit_wallet(self.session) == []


def run(engine: Engine, **options: Any) -> None:
    Machine.engine = engine
    run_state_machine_as_test(
        Machine, settings=settings(deadline=None, suppress_health_check=list(HealthCheck), **options)
    )


def test_any_sequence_of_wallet_actions_keeps_the_books(shared_engine: Engine) -> None:
    # Without shrinking, so that a failure is told before the test's time is over; the deep test shrinks.
    phases = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
    run(shared_engine, max_examples=25, stateful_step_count=30, derandomize=True, phases=phases)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_any_long_sequence_of_wallet_actions_keeps_the_books(shared_engine: Engine) -> None:
    run(shared_engine, max_examples=200, stateful_step_count=50)
