"""Receipts are numbered in each account without a gap, and those of before keep their numbers."""

import threading

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.db import transaction
from app.jobs.settle import cancel_unrendered
from app.jobs.tables import Job, ReceiptRow
from app.reports.audit import audit_books
from app.reports.receipt_pages import receipt_document
from app.reports.replay import replay_job
from app.sql_statements import SqlStatement
from app.wallet import hold
from app.wallet.tables import Wallet
from tests.ledger_simulation import Line


def numbers(session: Session, account_id: str, *, test: bool = False) -> list[int]:
    """Return the numbers of an account's receipts in the order of settlement."""
    session.expire_all()
    rows = session.query(ReceiptRow).filter_by(account_id=account_id, test=test)
    return [row.number for row in rows.order_by(ReceiptRow.position)]


def forget_numbers(session: Session, job_id: str) -> None:
    """Make a receipt one of the time before there were numbers by account."""
    session.execute(text("SET LOCAL session_replication_role = replica"))
    session.execute(text("DELETE FROM receipt_numbers WHERE job_id = :job"), {"job": job_id})
    session.execute(text("UPDATE wallets SET live_receipts = 0"))
    session.commit()


def test_each_account_counts_its_own_receipts_live_and_test_apart(session: Session) -> None:
    line = Line(session)
    alice, bob = line.open("Alice"), line.open("Bob")
    trial = line.open("Carol", test=True)
    for caller in (alice, bob, alice, trial, alice, bob, trial):
        line.order(caller)
        line.work()
    # Whatever the outcome: a cancelled film has a receipt too.
    line.cancel(bob, line.order(bob).id)
    assert numbers(session, alice.account_id) == [1, 2, 3]
    assert numbers(session, bob.account_id) == [1, 2, 3]
    assert numbers(session, trial.account_id, test=True) == [1, 2]
    # Those of test jobs are a row of their own.
    live = type(trial)(trial.account, trial.scopes, trial.roles, test=False)
    line.order(live)
    line.work()
    assert numbers(session, trial.account_id) == [1]
    assert numbers(session, trial.account_id, test=True) == [1, 2]
    line.check()


def test_a_settlement_that_is_rolled_back_gives_its_number_back(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    first, second = line.order(alice), line.order(alice)
    with pytest.raises(ZeroDivisionError):
        line.act(lambda: (cancel_unrendered(session, first), 1 // 0))
    line.cancel(alice, second.id)
    line.cancel(alice, first.id)
    assert numbers(session, alice.account_id) == [1, 2]
    line.check()


def test_settlements_at_the_same_time_get_different_numbers(engine: Engine, session: Session) -> None:
    line = Line(session)
    alice = line.open()
    jobs = [line.order(alice).id for _ in range(8)]

    def settle(names: list[str]) -> None:
        for name in names:
            with transaction(engine) as own:
                cancel_unrendered(own, own.get_one(Job, name, with_for_update=True))

    threads = [threading.Thread(target=settle, args=(jobs[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(session, alice.account_id)) == list(range(1, 9))


def test_an_older_receipt_keeps_its_number_and_its_bytes(session: Session) -> None:
    line = Line(session)
    other, alice = line.open("Bob"), line.open("Alice")
    old = [line.order(caller) for caller in (other, alice)][1]
    line.work()
    stored = replay_job(session, old.id)[0]
    forget_numbers(session, old.id)
    position = session.get_one(ReceiptRow, old.id).position
    assert numbers(session, alice.account_id) == [position]
    assert receipt_document(session, old.id, "en").title == f"Receipt No. {position}"
    # As the migration leaves the account.
    session.get_one(Wallet, alice.account_id).live_receipts = position
    session.commit()
    line.cancel(alice, line.order(alice).id)
    assert numbers(session, alice.account_id) == [position, position + 1]
    assert replay_job(session, old.id) == (stored, None)


# As the release before changes a wallet: it numbers no receipt.
OLDER_RELEASE = SqlStatement(
    """
    UPDATE wallets SET posted = posted - :spent, held = held - :held WHERE account_id = :account_id
    RETURNING low_balance_told_at IS NOT NULL AS is_told_low, CAST(:job_id AS text), CAST(:test AS boolean)
    """
)


def test_what_a_worker_of_the_release_before_settles_is_numbered_too(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine  # a trigger acts at commit
    line = Line(session)
    bob, alice = line.open("Bob"), line.open("Alice")

    def settle_as_before(caller: Caller) -> None:
        with monkeypatch.context() as older:
            older.setattr(hold, "_SETTLE_WALLET", OLDER_RELEASE)
            line.cancel(caller, line.order(caller).id)

    old = [line.order(caller).id for caller in (bob, alice)]
    line.work()
    for job_id in old:
        forget_numbers(session, job_id)
    # The next position of the service is the next number of Alice.
    session.execute(text("INSERT INTO receipt_numbering VALUES (2)"))
    session.commit()
    # Before the migration has filled her counter, and after it.
    settle_as_before(alice)
    line.cancel(alice, line.order(alice).id)
    settle_as_before(alice)
    assert numbers(session, alice.account_id) == [2, 3, 4, 5]
    assert session.get_one(Wallet, alice.account_id).live_receipts == 5
    trial = line.open("Carol", test=True)
    settle_as_before(trial)
    assert numbers(session, trial.account_id, test=True) == [1]
    assert audit_books(session) == []


def test_the_audit_finds_a_number_that_comes_twice(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    older, newer = (line.order(alice).id for _ in range(2))
    line.work()
    forget_numbers(session, older)
    position = session.get_one(ReceiptRow, older).position
    session.execute(text("INSERT INTO receipt_numbering VALUES (:position)"), {"position": position})
    session.execute(text("SET LOCAL session_replication_role = replica"))
    change = text("UPDATE receipt_numbers SET number = :position WHERE job_id = :job")
    session.execute(change, {"position": position, "job": newer})
    rules = {each.rule for each in audit_books(session)}
    assert "receipt_number_comes_once" in rules
    assert "receipt_has_a_number" not in rules


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("DELETE FROM receipt_numbers WHERE number = 2", "receipt_numbers_have_no_gap"),
        ("UPDATE receipt_numbers SET test = true WHERE number = 3", "receipt_is_numbered_in_its_account"),
        ("DELETE FROM receipt_numbers", "receipt_has_a_number"),
        ("UPDATE wallets SET live_receipts = 4", "wallet_counts_its_receipts"),
    ],
)
def test_the_audit_finds_a_gap_and_a_wrong_count(session: Session, change: str, rule: str) -> None:
    line = Line(session)
    alice = line.open()
    for _ in range(3):
        line.cancel(alice, line.order(alice).id)
    session.execute(text("SET LOCAL session_replication_role = replica"))
    session.execute(text(change))
    assert rule in {each.rule for each in audit_books(session)}
