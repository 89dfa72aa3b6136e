"""The owner is notified once when the wallet falls below the threshold, for any cause, and again at the next fall."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.admin import money
from app.audit_log.actor import SYSTEM_ACTOR
from app.clock import now
from app.errors import AppError
from app.events.tables import Event
from app.wallet.balance import set_low_balance
from app.wallet.funds import top_up
from tests.ledger_simulation import Line


def low_balance_events(line: Line, caller: Caller) -> list[str]:
    bodies = line.session.scalars(
        select(Event.body)
        .where(Event.account_id == caller.account_id, Event.type == "wallet.low")
        .order_by(Event.occurred_at)
    )
    return [json.loads(body)["data"]["available"] for body in bodies]


def test_a_low_balance_event_is_sent_once_for_each_fall(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=1_000)
    line.act(lambda: set_low_balance(session, alice.account_id, 600))
    line.order(alice, seconds=3)
    assert low_balance_events(line, alice) == []
    line.order(alice, seconds=3)
    assert low_balance_events(line, alice) == ["4.60"]
    line.order(alice, seconds=1)
    assert low_balance_events(line, alice) == ["4.60"]
    line.act(lambda: top_up(session, alice.account_id, 1_000, kind="purchased", reference="more"))
    line.order(alice, seconds=10)
    assert low_balance_events(line, alice) == ["4.60", "4.70"]
    line.check()


def test_credit_expiry_sends_one_low_balance_event_when_it_is_booked(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=500)
    ends = now(session) + timedelta(days=1)
    line.act(lambda: top_up(session, alice.account_id, 900, kind="granted", reference="trial", expires_at=ends))
    line.act(lambda: set_low_balance(session, alice.account_id, 600))
    line.sweep("expired_credit")
    assert low_balance_events(line, alice) == []
    line.wait(days=1)
    assert line.sweep("expired_credit") == {"expired_credit": 1}
    assert low_balance_events(line, alice) == ["5.00"]
    line.sweep("expired_credit")
    line.order(alice, seconds=1)
    assert low_balance_events(line, alice) == ["5.00"]
    line.check()


def test_a_top_up_that_leaves_the_balance_low_sends_no_second_event_for_the_same_fall(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=500)
    ends = now(session) + timedelta(days=1)
    line.act(lambda: top_up(session, alice.account_id, 900, kind="granted", reference="trial", expires_at=ends))
    line.act(lambda: set_low_balance(session, alice.account_id, 600))
    line.wait(days=1)
    # Nobody has booked the expiry yet; the hold sees it all the same.
    line.order(alice, seconds=1)
    assert low_balance_events(line, alice) == ["4.10"]
    line.act(lambda: top_up(session, alice.account_id, 50, kind="purchased", reference="some"))
    line.sweep("expired_credit")
    assert low_balance_events(line, alice) == ["4.10"]
    line.check()


def test_a_debit_correction_and_a_lowered_credit_limit_send_a_low_balance_event(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=1_000)
    account = alice.account_id
    line.act(lambda: set_low_balance(session, account, 600))

    def correct(amount: int, reference: str) -> None:
        line.act(lambda: money.correct_balance(session, SYSTEM_ACTOR, account, amount, reference=reference, reason="x"))

    correct(-300, "small")
    assert low_balance_events(line, alice) == []
    correct(-300, "chargeback")
    correct(-100, "another")
    assert low_balance_events(line, alice) == ["4.00"]
    line.act(lambda: money.set_account_credit_limit(session, SYSTEM_ACTOR, account, 1_000))
    assert low_balance_events(line, alice) == ["4.00"]
    line.act(lambda: money.set_account_credit_limit(session, SYSTEM_ACTOR, account, 0))
    assert low_balance_events(line, alice) == ["4.00", "3.00"]
    line.check()


def test_what_comes_back_from_a_hold_arms_it_again(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=1_000)
    line.act(lambda: set_low_balance(session, alice.account_id, 600))
    first = line.order(alice, seconds=6)
    assert low_balance_events(line, alice) == ["4.60"]
    line.cancel(alice, first.id)
    assert low_balance_events(line, alice) == ["4.60"]
    line.order(alice, seconds=7)
    assert low_balance_events(line, alice) == ["4.60", "3.70"]
    line.check()


def test_a_refused_order_publishes_no_event(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=100)
    line.act(lambda: set_low_balance(session, alice.account_id, 50))
    with pytest.raises(AppError, match="cannot hold the price"):
        line.order(alice, seconds=5)
    assert low_balance_events(line, alice) == []
    line.check()
