"""How many statements an order, a claim, a heartbeat, the end of a segment and the end of a film send at most."""

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.lease import renew_lease
from app.dispatch.worker_registry import heartbeat
from app.jobs.tables import Job
from app.prices.find import recorded_book
from app.reports.audit import audit_books
from tests.factories import make_worker
from tests.ledger_simulation import Line
from tests.statement_count import end_film, end_segment, listed, next_claim, order, recorded_statements

# One more than these is a regression: the load that one database carries is counted in statements.
ORDER_MAX = 5
# What a price reserves is written behind a savepoint: free seconds, and discounts of capped promotions.
ORDER_WITH_FREE_SECONDS_MAX = 8
SEGMENT_END_MAX = 6  # the last one of a film; others send five
# The first claim of a job starts it.
CLAIM_MAX, FIRST_CLAIM_MAX, EMPTY_CLAIM_MAX = 5, 7, 1
FILM_END_MAX = 10
BEAT_MAX = 2


@pytest.fixture(params=["studio", "professional"])
def caller(engine: Engine, redis_url: str, request: pytest.FixtureRequest) -> Caller:
    """A key of a project, both with a budget, of an account with free seconds (`studio`) or without."""
    with Session(engine, expire_on_commit=False) as session:
        owner = Line(session).open(membership=request.param)
    with transaction(engine) as session:
        project = create_project(session, owner.account_id, "Films", budget_month=1_000_000)
        key, _ = issue_key(
            session, owner.account_id, scopes=["videos"], project_id=project.id, budget_total=10**6, job_cap=10**5
        )
        make_worker(session, "worker-1", pools=("finish", "synthetic"))
    return Caller(owner.account, owner.scopes, owner.roles, project_id=project.id, key_id=key.id)


def test_an_order_sends_few_statements(engine: Engine, caller: Caller) -> None:
    # The first one reads the text of the price book.
    order(engine, caller)
    for statements in (order(engine, caller), order(engine, caller, key="a key")):
        has_free_seconds = any("SAVEPOINT" in each for each in statements)
        limit = ORDER_WITH_FREE_SECONDS_MAX if has_free_seconds else ORDER_MAX
        assert len(statements) <= limit, listed(statements)


def test_an_order_of_several_films_sends_as_few_statements_as_of_one(engine: Engine, caller: Caller) -> None:
    order(engine, caller)
    for n in (2, 10):
        statements = order(engine, caller, n=n)
        has_free_seconds = any("SAVEPOINT" in each for each in statements)
        limit = ORDER_WITH_FREE_SECONDS_MAX if has_free_seconds else ORDER_MAX
        assert len(statements) <= limit, listed(statements)


def test_a_claim_sends_few_statements(engine: Engine, caller: Caller) -> None:
    # Two segments, and the finish.
    order(engine, caller, seconds=10)
    for pool, limit in (("synthetic", FIRST_CLAIM_MAX), ("synthetic", CLAIM_MAX), ("finish", CLAIM_MAX)):
        with recorded_statements(engine) as statements, transaction(engine) as session:
            lease = claim(session, "worker-1", [pool])
        assert lease is not None
        assert len(statements) <= limit, listed(statements)
        if pool == "synthetic":
            end_segment(engine, lease)
    with recorded_statements(engine) as statements, transaction(engine) as session:
        assert claim(session, "worker-1", ["synthetic"]) is None
    assert len(statements) <= EMPTY_CLAIM_MAX, listed(statements)


def test_the_ends_of_segments_and_films_send_few_statements(engine: Engine, caller: Caller) -> None:
    # Two segments at 16 frames per second.
    order(engine, caller, seconds=10)
    for _ in range(2):
        statements = end_segment(engine, next_claim(engine))
        assert len(statements) <= SEGMENT_END_MAX, listed(statements)
    # Each process reads a price book once.
    with transaction(engine) as session:
        pricing = session.scalars(select(Job.pricing)).one()
        recorded_book(session, pricing["book"], pricing["book_hash"])
    # A part of the film, so that money and free seconds come back, and then a whole one.
    statements = end_film(engine, next_claim(engine), frames=100)
    assert len(statements) <= FILM_END_MAX, listed(statements)
    order(engine, caller)
    end_segment(engine, next_claim(engine))
    statements = end_film(engine, next_claim(engine), frames=32)
    assert len(statements) <= FILM_END_MAX, listed(statements)
    with transaction(engine) as session:
        assert audit_books(session) == []


def test_a_heartbeat_sends_few_statements(engine: Engine, caller: Caller) -> None:
    order(engine, caller)
    lease = next_claim(engine)
    with recorded_statements(engine) as statements, transaction(engine) as session:
        renew_lease(session, lease, step=1, steps=8, percent=10)
    assert len(statements) <= BEAT_MAX, listed(statements)
    with recorded_statements(engine) as statements, transaction(engine) as session:
        heartbeat(session, "worker-1", state="busy", take_id=lease.take_id, resident_model="synthetic")
    assert len(statements) <= BEAT_MAX, listed(statements)
