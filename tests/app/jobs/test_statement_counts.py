"""How many statements an order, a claim, a heartbeat, the end of a segment and the end of a film send at most."""

from fractions import Fraction

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.accounts.tables import Account
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import renew_lease, succeed_finish, succeed_segment
from app.dispatch.worker_registry import heartbeat
from app.jobs.idempotency import OrderIdentity
from app.jobs.settle import StoredFilm
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.prices.find import recorded_book
from app.reports.audit import audit_books
from tests.factories import make_worker
from tests.ledger_simulation import Line, request
from tests.statement_count import recorded_statements

# One more than these is a regression: the load that one database carries is counted in statements.
ORDER_MAX = 5
# What a price reserves is written behind a savepoint: free seconds, and discounts of capped promotions.
ORDER_WITH_FREE_SECONDS_MAX = 8
SEGMENT_END_MAX = 6
FILM_END_MAX = 10
BEAT_MAX = 2
METER = {"gpu_seconds": "1.5"}


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


def order(engine: Engine, caller: Caller, *, key: str | None = None, seconds: int = 2) -> list[str]:
    """Order a film; return the statements, without those that find the account again, as a request has done already."""
    wanted = request(seconds=seconds)
    with transaction(engine) as session:
        session.get_one(Account, caller.account_id)
        with recorded_statements(engine) as statements:
            submit(session, caller, OrderIdentity(wanted, fingerprint=wanted.model_dump_json(), idempotency_key=key))
    return statements


def next_claim(engine: Engine) -> Claim:
    with transaction(engine) as session:
        lease = claim(session, "worker-1", ["finish", "synthetic"])
    assert lease is not None
    return lease


def end_segment(engine: Engine, lease: Claim) -> list[str]:
    with recorded_statements(engine) as statements, transaction(engine) as session:
        succeed_segment(session, lease, clip_key="clip.mp4", handover_key=None, meter=METER)
    return statements


def end_film(engine: Engine, lease: Claim, *, frames: int) -> list[str]:
    film = StoredFilm(
        key="film.mp4",
        poster_key="film.jpg",
        sprites_key="sprites.jpg",
        sha256="0" * 64,
        bytes=1000,
        frames=frames,
        fps=Fraction(16),
        width=1280,
        height=720,
        has_audio=True,
        reused_frames=0,
        facts={},
    )
    with recorded_statements(engine) as statements, transaction(engine) as session:
        succeed_finish(session, lease, film, meter={"gpu_seconds": "0"})
    return statements


def listed(statements: list[str]) -> str:
    return "\n".join(f"{number} {statement[:160]}" for number, statement in enumerate(statements, 1))


def test_an_order_sends_few_statements(engine: Engine, caller: Caller) -> None:
    # The first one reads the text of the price book.
    order(engine, caller)
    for statements in (order(engine, caller), order(engine, caller, key="a key")):
        has_free_seconds = any("SAVEPOINT" in each for each in statements)
        limit = ORDER_WITH_FREE_SECONDS_MAX if has_free_seconds else ORDER_MAX
        assert len(statements) <= limit, listed(statements)


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
