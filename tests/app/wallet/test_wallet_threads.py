"""Many threads on real Postgres: nothing is overdrawn, resolved twice, refunded twice or counted twice."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.wallet.audit import audit_wallet
from app.wallet.balance import balance, open_wallet, set_credit_limit
from app.wallet.funds import correct, refund, top_up
from app.wallet.hold import capture, hold, release
from app.wallet.lots import expire_lots

THREADS = 32


def parallel(acts: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(timeout=120) for future in [pool.submit(act) for act in acts]]


def tried(engine: Engine, act: Callable[[Session], object]) -> str:
    """Run one action in a transaction of its own; return `done`, or the code of its error."""
    try:
        with transaction(engine) as session:
            act(session)
    except AppError as error:
        return error.code
    return "done"


@pytest.fixture
def account(engine: Engine) -> str:
    with transaction(engine) as session:
        account_id = create_account(session, "Studio Wu").id
        open_wallet(session, account_id)
        top_up(session, account_id, 600, kind="purchased", reference="first")
        top_up(session, account_id, 400, kind="granted", reference="gift", expires_at=now(session) + timedelta(days=9))
    return account_id


def test_32_threads_cannot_overdraw_one_wallet(engine: Engine, account: str) -> None:
    def take(number: int) -> Callable[[], str]:
        return lambda: tried(
            engine, lambda session: hold(session, account_id=account, job_id=f"video_{number}", amount=70)
        )

    outcomes = parallel([take(number) for number in range(3 * THREADS)])
    assert outcomes.count("done") == 14
    assert set(outcomes) == {"done", "insufficient_funds"}
    with transaction(engine) as session:
        assert balance(session, account).available == 1000 - 14 * 70
        assert audit_wallet(session) == []


def test_parallel_jobs_cannot_overshoot_a_key_a_project_or_the_wallet(engine: Engine, account: str) -> None:
    with transaction(engine) as session:
        keys = [issue_key(session, account, scopes=["videos"], budget_total=limit)[0].id for limit in (310, None)]
        projects = [create_project(session, account, name, budget_month=400).id for name in ("one", "two")]
    random_numbers = random.Random(7)

    def one(number: int) -> Callable[[], str]:
        key, project = random_numbers.choice([*keys, None]), random_numbers.choice([*projects, None])
        share = random_numbers.choice([0, 25, 50, 50])

        def story() -> str:
            job = f"video_{number}"
            accepted = tried(
                engine,
                lambda session: hold(
                    session, account_id=account, job_id=job, amount=50, key_id=key, project_id=project
                ),
            )
            if accepted == "done" and number % 3 == 0:
                return tried(engine, lambda session: capture(session, job, share))
            if accepted == "done" and number % 3 == 1:
                return tried(engine, lambda session: release(session, job))
            return accepted

        return story

    outcomes = parallel([one(number) for number in range(4 * THREADS)])
    assert set(outcomes) <= {"done", "insufficient_funds", "budget_exceeded"}
    with transaction(engine) as session:
        assert balance(session, account).available >= 0
        assert audit_wallet(session) == []


def test_a_hold_is_resolved_by_one_of_many(engine: Engine, account: str) -> None:
    with transaction(engine) as session:
        hold(session, account_id=account, job_id="video_1", amount=900)
    acts: list[Callable[[Session], object]] = [
        lambda session: capture(session, "video_1", 500),
        lambda session: release(session, "video_1"),
    ]
    outcomes = parallel([lambda act=acts[number % 2]: tried(engine, act) for number in range(THREADS)])
    assert sorted(outcomes) == ["conflict"] * (THREADS - 1) + ["done"]
    with transaction(engine) as session:
        assert balance(session, account).held == 0
        assert audit_wallet(session) == []


def test_one_payment_reported_many_times_counts_once(engine: Engine, account: str) -> None:
    outcomes = parallel(
        [lambda: tried(engine, lambda session: top_up(session, account, 250, kind="purchased", reference="bank-77"))]
        * THREADS
    )
    assert outcomes == ["done"] * THREADS
    with transaction(engine) as session:
        assert balance(session, account).posted == 1250
        assert audit_wallet(session) == []


def test_parallel_refunds_never_give_more_than_was_charged(engine: Engine, account: str) -> None:
    with transaction(engine) as session:
        hold(session, account_id=account, job_id="video_1", amount=1000)
    with transaction(engine) as session:
        capture(session, "video_1", 1000)

    def give(number: int) -> Callable[[], str]:
        return lambda: tried(
            engine, lambda session: refund(session, "video_1", 300, reference=f"r{number}", reason="flicker")
        )

    assert parallel([give(number) for number in range(THREADS)]).count("done") == 3
    with transaction(engine) as session:
        assert balance(session, account).available == 900
        assert audit_wallet(session) == []


@pytest.mark.deep
def test_everything_at_once_on_one_wallet_neither_deadlocks_nor_loses_a_fen(engine: Engine, account: str) -> None:
    with transaction(engine) as session:
        key = issue_key(session, account, scopes=["videos"], budget_total=100_000)[0].id
        project = create_project(session, account, "one", budget_month=100_000).id
        set_credit_limit(session, account, 500)

    def story(number: int) -> Callable[[], list[str]]:
        job, amount = f"video_{number}", 30 + number % 40
        soon = timedelta(milliseconds=number % 7)

        def gift(session: Session) -> None:
            expires_at = now(session) + timedelta(milliseconds=1) + soon
            top_up(session, account, 5, kind="granted", reference=f"g{number}", expires_at=expires_at)

        steps: list[Callable[[Session], object]] = [
            gift,
            lambda session: hold(
                session, account_id=account, job_id=job, amount=amount, key_id=key, project_id=project
            ),
            lambda session: expire_lots(session, account),
            (lambda session: capture(session, job, amount // 2, ours=number % 2 == 0))
            if number % 3
            else (lambda session: release(session, job, ours=number % 2 == 0)),
            lambda session: refund(session, job, 3, reference="r", reason="flicker"),
            lambda session: correct(session, account, 2 - number % 5 or 1, reference=f"c{number}", reason="drill"),
        ]
        return lambda: [tried(engine, step) for step in steps]

    outcomes = parallel([story(number) for number in range(2 * THREADS)])
    words = {word for story in outcomes for word in story}
    assert words <= {"done", "insufficient_funds", "not_found", "conflict"}
    with transaction(engine) as session:
        assert balance(session, account).held == 0
        assert audit_wallet(session) == []
