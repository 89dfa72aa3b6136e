"""The wallet's functions: top-ups, holds, captures, refunds and corrections."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import count
from random import Random

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key, rotate_key
from app.accounts.projects import create_project, set_budget
from app.clock import now
from app.errors import AppError
from app.wallet.audit import audit_wallet
from app.wallet.balance import balance, crossed_low_balance, open_wallet, set_credit_limit, set_low_balance
from app.wallet.funds import correct, list_transfers, refund, signed_text, top_up
from app.wallet.hold import HoldResolved, capture, get_hold, hold, release
from app.wallet.lots import REGRANT_LIFE, accounts_with_expired_lots, expire_lots

_numbers = count(1)


@pytest.fixture
def account(session: Session) -> str:
    account_id = create_account(session, "Studio Wu").id
    open_wallet(session, account_id)
    return account_id


def give(session: Session, account_id: str, amount: int, kind: str = "purchased", days: float | None = None) -> None:
    expires_at = None if days is None else now(session) + timedelta(days=days)
    top_up(session, account_id, amount, kind=kind, reference=f"pay{next(_numbers)}", expires_at=expires_at)


def later(session: Session, days: float) -> None:
    session.commit()
    session.info["clock_offset"] = session.info.get("clock_offset", timedelta(0)) + timedelta(days=days)


def refused(code: str, act: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def lots(session: Session) -> list[tuple[str, int, int]]:
    query = "SELECT kind, amount, remaining FROM credit_lots ORDER BY created_at, amount"
    return [tuple(row) for row in session.execute(text(query))]


def test_what_costs_nothing_is_held_where_nothing_is_left(session: Session, account: str) -> None:
    correct(session, account, -500, reference="slip", reason="paid in twice")
    project = create_project(session, account, "ads", budget_month=100)
    new_hold = hold(session, account_id=account, job_id="video_free", amount=0, project_id=project.id)
    assert (new_hold.amount, new_hold.state, balance(session, account).available) == (0, "held", -500)
    with pytest.raises(AppError, match="cannot hold"), session.begin_nested():
        hold(session, account_id=account, job_id="video_1", amount=1)
    assert audit_wallet(session) == []


def test_a_free_film_fits_a_budget_that_was_lowered(session: Session, account: str) -> None:
    give(session, account, 1000)
    project = create_project(session, account, "ads", budget_month=500)
    hold(session, account_id=account, job_id="video_1", amount=400, project_id=project.id)
    set_budget(session, account, project.id, 100)
    hold(session, account_id=account, job_id="video_free", amount=0, project_id=project.id)
    with pytest.raises(AppError, match="cannot hold"), session.begin_nested():
        hold(session, account_id=account, job_id="video_2", amount=1, project_id=project.id)
    assert audit_wallet(session) == []


def test_a_hold_is_captured_in_part_and_the_rest_is_free_again(session: Session, account: str) -> None:
    give(session, account, 1000)
    new_hold = hold(session, account_id=account, job_id="video_1", amount=600)
    assert (new_hold.amount, new_hold.state) == (600, "held")
    has = balance(session, account)
    assert (has.posted, has.held, has.available, has.purchased) == (1000, 600, 400, 400)
    transfer = capture(session, "video_1", 450)
    assert transfer is not None
    assert (transfer.credit, transfer.amount, transfer.job_id, signed_text(transfer)) == (
        "revenue",
        450,
        "video_1",
        "-4.50",
    )
    has = balance(session, account)
    assert (has.posted, has.held, has.available, has.purchased) == (550, 0, 550, 550)
    assert get_hold(session, "video_1").captured_amount == 450
    assert audit_wallet(session) == []


def test_a_release_gives_all_of_it_back(session: Session, account: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=1000)
    assert release(session, "video_1").state == "released"
    assert balance(session, account).available == 1000
    assert [transfer.kind for transfer in list_transfers(session, account)] == ["purchase"]
    assert audit_wallet(session) == []


def test_nothing_captured_is_a_captured_hold_and_no_transfer(session: Session, account: str) -> None:
    hold(session, account_id=account, job_id="video_free", amount=0)
    assert capture(session, "video_free", 0) is None
    assert get_hold(session, "video_free").state == "captured"
    assert audit_wallet(session) == []


@pytest.mark.parametrize("first", ["captured", "released"])
@pytest.mark.parametrize("second", ["captured", "released"])
def test_the_second_request_returns_the_first_decision(session: Session, account: str, first: str, second: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=600)
    acts = {"captured": lambda: capture(session, "video_1", 600), "released": lambda: release(session, "video_1")}
    acts[first]()
    before = balance(session, account)
    with pytest.raises(HoldResolved) as caught:
        acts[second]()
    assert caught.value.state == first
    assert balance(session, account) == before
    assert audit_wallet(session) == []


def test_more_than_the_hold_is_never_captured(session: Session, account: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=600)
    with pytest.raises(ValueError, match="601 is more than the 600"):
        capture(session, "video_1", 601)
    assert get_hold(session, "video_1").state == "held"
    refused("not_found", lambda: capture(session, "video_none", 1))


def test_a_job_has_one_hold_in_its_life(session: Session, account: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=100)
    refused("conflict", lambda: hold(session, account_id=account, job_id="video_1", amount=100))
    release(session, "video_1")
    refused("conflict", lambda: hold(session, account_id=account, job_id="video_1", amount=100))


def test_too_little_money_is_said_in_figures(session: Session, account: str) -> None:
    give(session, account, 438)
    error = refused("insufficient_funds", lambda: hold(session, account_id=account, job_id="video_1", amount=439))
    assert error.facts == {"price": "4.39", "available": "4.38", "currency": "CNY"}
    session.rollback()


@pytest.mark.parametrize("amount", [1.0, Decimal(1), "1", True, None])
def test_an_amount_that_is_no_int_is_a_type_error_everywhere(session: Session, account: str, amount: object) -> None:
    give(session, account, 10)
    hold(session, account_id=account, job_id="video_1", amount=5)
    for act in (
        lambda: hold(session, account_id=account, job_id="video_2", amount=amount),  # type: ignore[arg-type]
        lambda: capture(session, "video_1", amount),  # type: ignore[arg-type]
        lambda: top_up(session, account, amount, kind="granted", reference="x"),  # type: ignore[arg-type]
        lambda: refund(session, "video_1", amount, reference="x", reason="x"),  # type: ignore[arg-type]
        lambda: correct(session, account, amount, reference="x", reason="x"),  # type: ignore[arg-type]
        lambda: set_credit_limit(session, account, amount),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="whole minor units"):
            act()


def test_the_same_payment_counts_once_and_another_one_under_its_name_is_refused(session: Session, account: str) -> None:
    first = top_up(session, account, 500, kind="purchased", reference="bank-77")
    again = top_up(session, account, 500, kind="purchased", reference="bank-77")
    assert first.id == again.id
    assert balance(session, account).posted == 500
    refused("conflict", lambda: top_up(session, account, 501, kind="purchased", reference="bank-77"))
    assert audit_wallet(session) == []


def test_what_a_top_up_refuses(session: Session, account: str) -> None:
    past = now(session)
    refused("invalid_request", lambda: top_up(session, account, 1, kind="found", reference="a"))
    refused("invalid_request", lambda: top_up(session, account, 1, kind="granted", reference="b", expires_at=past))
    refused("not_found", lambda: top_up(session, "acct_none", 1, kind="granted", reference="c"))
    with pytest.raises(ValueError, match="1 or more"):
        top_up(session, account, 0, kind="granted", reference="d")


def test_credit_that_expires_first_goes_first_and_granted_before_purchased(session: Session, account: str) -> None:
    give(session, account, 100)
    give(session, account, 200, "granted")
    give(session, account, 300, "purchased", days=2)
    give(session, account, 400, "granted", days=2)
    give(session, account, 500, "purchased", days=1)
    spent = []
    for number, amount in enumerate((500, 400, 300, 200, 100)):
        hold(session, account_id=account, job_id=f"video_{number}", amount=amount)
        spent.append([(kind, size) for kind, size, remaining in lots(session) if remaining == 0])
    order = [pair for step, gone in enumerate(spent) for pair in gone if step == 0 or pair not in spent[step - 1]]
    assert order == [("purchased", 500), ("granted", 400), ("purchased", 300), ("granted", 200), ("purchased", 100)]
    assert audit_wallet(session) == []


def test_a_lot_that_expired_is_not_spent_even_before_the_sweeper_came(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=1)
    give(session, account, 100)
    later(session, 1)
    assert balance(session, account).available == 100
    hold(session, account_id=account, job_id="video_1", amount=100)
    with session.begin_nested() as attempt:
        refused("insufficient_funds", lambda: hold(session, account_id=account, job_id="video_2", amount=1))
        attempt.rollback()
    assert accounts_with_expired_lots(session) == [account]
    assert expire_lots(session, account) == 300
    assert expire_lots(session, account) == 0
    assert accounts_with_expired_lots(session) == []
    assert list_transfers(session, account)[0].credit == "breakage"
    has = balance(session, account)
    assert (has.posted, has.available) == (100, 0)
    assert audit_wallet(session) == []


def test_a_lot_that_expires_under_a_hold_can_still_be_captured(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=1)
    hold(session, account_id=account, job_id="video_1", amount=200)
    later(session, 2)
    assert expire_lots(session, account) == 100
    capture(session, "video_1", 150)
    # The 50 that came back belong to a lot that is over.
    has = balance(session, account)
    assert (has.posted, has.held, has.available) == (0, 0, 0)
    assert audit_wallet(session) == []


def test_what_our_failure_releases_into_an_expired_lot_is_granted_anew(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=1)
    hold(session, account_id=account, job_id="video_1", amount=200)
    later(session, 2)
    expire_lots(session, account)
    release(session, "video_1", ours=True)
    has = balance(session, account)
    assert (has.posted, has.available, has.granted) == (200, 200, 200)
    assert has.next_expiry_at is not None
    assert has.next_expiry_at > now(session)
    assert audit_wallet(session) == []


def test_a_cancel_does_not_bring_expired_credit_back(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=1)
    hold(session, account_id=account, job_id="video_1", amount=200)
    later(session, 2)
    release(session, "video_1", ours=False)
    expire_lots(session, account)
    assert balance(session, account).available == 0
    assert audit_wallet(session) == []


def test_credit_carries_holds_below_zero_and_money_that_comes_pays_it_off(session: Session, account: str) -> None:
    set_credit_limit(session, account, 1000)
    give(session, account, 300)
    hold(session, account_id=account, job_id="video_1", amount=1300)
    with session.begin_nested() as attempt:
        refused("insufficient_funds", lambda: hold(session, account_id=account, job_id="video_2", amount=1))
        attempt.rollback()
    capture(session, "video_1", 1200)
    has = balance(session, account)
    assert (has.posted, has.available, has.purchased) == (-900, 100, 0)
    assert audit_wallet(session) == []
    give(session, account, 1000)
    has = balance(session, account)
    assert (has.posted, has.purchased) == (100, 100)
    assert audit_wallet(session) == []


def test_a_limit_lowered_under_open_holds_binds_new_ones_only(session: Session, account: str) -> None:
    set_credit_limit(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=800)
    set_credit_limit(session, account, 0)
    with session.begin_nested() as attempt:
        refused("insufficient_funds", lambda: hold(session, account_id=account, job_id="video_2", amount=1))
        attempt.rollback()
    capture(session, "video_1", 800)
    assert balance(session, account).available == -800
    assert audit_wallet(session) == []


def test_a_debt_is_paid_by_whatever_credit_comes_back(session: Session, account: str) -> None:
    give(session, account, 500)
    hold(session, account_id=account, job_id="video_1", amount=500)
    correct(session, account, -200, reference="fix-1", reason="paid twice")
    assert balance(session, account).available == -200
    assert audit_wallet(session) == []
    release(session, "video_1")
    has = balance(session, account)
    assert (has.available, has.purchased) == (300, 300)
    assert audit_wallet(session) == []


def test_a_refund_is_a_new_transfer_and_never_more_than_the_charge(session: Session, account: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=600)
    refused("conflict", lambda: refund(session, "video_1", 1, reference="r0", reason="too early"))
    capture(session, "video_1", 500)
    first = refund(session, "video_1", 200, reference="r1", reason="flicker")
    assert refund(session, "video_1", 200, reference="r1", reason="flicker").id == first.id
    error = refused("conflict", lambda: refund(session, "video_1", 301, reference="r2", reason="again"))
    assert error.facts["left"] == "3.00"
    refund(session, "video_1", 300, reference="r2", reason="all of it")
    assert get_hold(session, "video_1").state == "captured"
    assert balance(session, account).available == 1000
    refused("not_found", lambda: refund(session, "video_none", 1, reference="r3", reason="x"))
    assert audit_wallet(session) == []


def test_a_refund_goes_back_to_the_lots_it_was_taken_from_the_last_spent_first(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=10)
    give(session, account, 200)
    hold(session, account_id=account, job_id="video_1", amount=450)
    capture(session, "video_1", 400)
    before = balance(session, account)
    assert (before.granted, before.purchased) == (0, 100)
    refund(session, "video_1", 150, reference="r1", reason="flicker")
    has = balance(session, account)
    assert (has.granted, has.purchased, has.next_expiry_amount) == (50, 200, 50)
    refund(session, "video_1", 250, reference="r2", reason="all of it")
    has = balance(session, account)
    assert (has.granted, has.purchased, has.next_expiry_amount) == (300, 200, 300)
    assert lots(session) == [("purchased", 200, 200), ("granted", 300, 300)]
    assert audit_wallet(session) == []


def test_a_refund_into_credit_that_has_expired_is_granted_anew(session: Session, account: str) -> None:
    give(session, account, 300, "granted", days=1)
    hold(session, account_id=account, job_id="video_1", amount=300)
    capture(session, "video_1", 300)
    later(session, 2)
    refund(session, "video_1", 200, reference="r1", reason="flicker")
    has = balance(session, account)
    assert (has.available, has.granted, has.purchased) == (200, 200, 0)
    assert has.next_expiry_at == now(session) + REGRANT_LIFE
    assert audit_wallet(session) == []


@pytest.mark.parametrize(("first", "then"), [("granted", "purchased"), ("purchased", "granted")])
def test_a_refund_of_what_credit_covered_comes_back_as_what_has_paid_it(
    session: Session, account: str, first: str, then: str
) -> None:
    set_credit_limit(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=900)
    capture(session, "video_1", 900)
    give(session, account, 500, first)
    give(session, account, 100, then)
    # 300 are still owed: these are not there to be given back, whoever paid for the rest.
    refund(session, "video_1", 900, reference="r1", reason="black")
    has = balance(session, account)
    assert (has.posted, getattr(has, first), getattr(has, then)) == (600, 500, 100)
    assert audit_wallet(session) == []


@pytest.mark.parametrize("seed", range(20))
def test_when_all_is_refunded_there_is_as_much_granted_and_purchased_credit_as_came_in(
    session: Session, account: str, seed: int
) -> None:
    random = Random(seed)
    set_credit_limit(session, account, 500)
    came, charged = {"granted": 0, "purchased": 0}, {}
    for number in range(12):
        if random.random() < 0.4:
            kind, amount = random.choice(list(came)), random.randint(1, 400)
            give(session, account, amount, kind, days=random.choice([None, 5]))
            came[kind] += amount
        elif amount := random.randint(0, balance(session, account).available):
            hold(session, account_id=account, job_id=f"video_{number}", amount=amount)
            charged[f"video_{number}"] = random.randint(0, amount)
            capture(session, f"video_{number}", charged[f"video_{number}"])
    while left := [job for job, amount in charged.items() if amount]:
        job = random.choice(left)
        part = random.randint(1, charged[job])
        charged[job] -= part
        refund(session, job, part, reference=f"part {next(_numbers)}", reason="drill")
        has = balance(session, account)
        assert has.purchased <= came["purchased"]
        assert has.granted <= came["granted"]
    has = balance(session, account)
    assert {"granted": has.granted, "purchased": has.purchased} == came
    assert audit_wallet(session) == []


def test_a_correction_takes_what_is_there_and_leaves_a_debt(session: Session, account: str) -> None:
    give(session, account, 100)
    correct(session, account, -250, reference="fix-1", reason="chargeback")
    assert balance(session, account).available == -150
    correct(session, account, 400, reference="fix-2", reason="chargeback withdrawn")
    assert balance(session, account).available == balance(session, account).purchased == 250
    refused("invalid_request", lambda: correct(session, account, 1, reference="fix-3", reason=" "))
    assert audit_wallet(session) == []


def test_the_api_sends_one_low_balance_event_for_each_fall(session: Session, account: str) -> None:
    set_low_balance(session, account, 300)
    give(session, account, 1000)
    assert crossed_low_balance(session, account) is None
    hold(session, account_id=account, job_id="video_1", amount=800)
    crossed = crossed_low_balance(session, account)
    assert crossed is not None
    assert crossed.available == 200
    hold(session, account_id=account, job_id="video_2", amount=100)
    assert crossed_low_balance(session, account) is None
    give(session, account, 50)
    assert crossed_low_balance(session, account) is None
    give(session, account, 500)
    hold(session, account_id=account, job_id="video_3", amount=500)
    assert crossed_low_balance(session, account) is not None


def test_a_projects_budget_counts_in_the_month_of_acceptance(session: Session, account: str) -> None:
    project = create_project(session, account, "trailers", budget_month=500)
    give(session, account, 5000)
    hold(session, account_id=account, job_id="video_1", amount=400, project_id=project.id)
    with session.begin_nested() as attempt:
        error = refused(
            "budget_exceeded",
            lambda: hold(session, account_id=account, job_id="video_2", amount=101, project_id=project.id),
        )
        attempt.rollback()
    assert (error.facts["budget"], error.facts["limit"], error.facts["held"]) == ("project", "5.00", "4.00")
    capture(session, "video_1", 300)
    hold(session, account_id=account, job_id="video_3", amount=200, project_id=project.id)
    later(session, 31)
    hold(session, account_id=account, job_id="video_4", amount=500, project_id=project.id)
    # Settled in the next month, counted in its own.
    capture(session, "video_3", 200)
    refund(session, "video_1", 100, reference="r1", reason="flicker")
    spent = session.execute(text("SELECT held, spent FROM budgets ORDER BY month")).all()
    assert [tuple(row) for row in spent] == [(0, 400), (500, 0)]
    assert audit_wallet(session) == []


def test_a_budget_set_later_knows_what_was_spent_before_it(session: Session, account: str) -> None:
    project = create_project(session, account, "trailers")
    give(session, account, 5000)
    hold(session, account_id=account, job_id="video_1", amount=400, project_id=project.id)
    set_budget(session, account, project.id, 450)
    with session.begin_nested() as attempt:
        refused(
            "budget_exceeded",
            lambda: hold(session, account_id=account, job_id="video_2", amount=51, project_id=project.id),
        )
        attempt.rollback()
    hold(session, account_id=account, job_id="video_3", amount=50, project_id=project.id)
    assert audit_wallet(session) == []


def test_one_job_may_not_cost_more_than_its_keys_cap(session: Session, account: str) -> None:
    key, _ = issue_key(session, account, scopes=["videos"], budget_total=1000, job_cap=700)
    give(session, account, 5000)
    error = refused(
        "price_above_cap", lambda: hold(session, account_id=account, job_id="video_0", amount=701, key_id=key.id)
    )
    assert error.facts["cap"] == "7.00"
    session.rollback()


def test_a_keys_budget_lasts_its_whole_life_and_survives_rotation(session: Session, account: str) -> None:
    key, _ = issue_key(session, account, scopes=["videos"], budget_total=1000)
    give(session, account, 5000)
    hold(session, account_id=account, job_id="video_1", amount=600, key_id=key.id)
    capture(session, "video_1", 600)
    fresh, _ = rotate_key(session, account, key.id, overlap=timedelta(0))
    later(session, 400)
    with session.begin_nested() as attempt:
        error = refused(
            "budget_exceeded", lambda: hold(session, account_id=account, job_id="video_2", amount=401, key_id=fresh.id)
        )
        attempt.rollback()
    assert (error.facts["budget"], error.facts["spent"], error.facts["month"]) == ("key", "6.00", None)
    hold(session, account_id=account, job_id="video_3", amount=400, key_id=fresh.id)
    assert audit_wallet(session) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfers SET amount = amount + 1",
        "DELETE FROM transfers",
        "DELETE FROM holds",
        "UPDATE holds SET amount = 1",
        "UPDATE holds SET state = 'held', resolved_at = NULL WHERE job_id = 'video_done'",
        "UPDATE wallets SET held = posted + 1",
        "UPDATE wallets SET held = -1",
        "UPDATE credit_lots SET remaining = amount + 1",
        "UPDATE holds SET state = 'captured', captured_amount = amount + 1, resolved_at = now() WHERE state = 'held'",
    ],
)
def test_the_database_refuses_changes_to_transfers(session: Session, account: str, statement: str) -> None:
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_done", amount=300)
    hold(session, account_id=account, job_id="video_1", amount=300)
    release(session, "video_done")
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(text(statement))
    assert audit_wallet(session) == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE wallets SET posted = posted + 1", "wallet_posted_is_sum_of_transfers"),
        ("UPDATE wallets SET held = held - 1", "wallet_held_is_sum_of_open_holds"),
        ("UPDATE credit_lots SET remaining = remaining - 1", "lot_remaining_is_amount_less_what_left_it"),
        ("UPDATE hold_slices SET used = 0 WHERE used IS NULL", "slices_follow_their_hold"),
        ("UPDATE budgets SET spent = spent + 1", "project_budget_counts_its_jobs"),
        ("DELETE FROM lot_draws", "lot_remaining_is_amount_less_what_left_it"),
    ],
)
def test_the_audit_names_the_changed_rows(session: Session, account: str, statement: str, rule: str) -> None:
    project = create_project(session, account, "trailers")
    give(session, account, 1000)
    hold(session, account_id=account, job_id="video_1", amount=300, project_id=project.id)
    correct(session, account, -10, reference="fix", reason="fix")
    assert audit_wallet(session) == []
    session.execute(text("ALTER TABLE lot_draws DISABLE TRIGGER USER"))
    session.execute(text(statement))
    assert rule in {finding.rule for finding in audit_wallet(session)}
